"""The program that answers any token, as a process on a host."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from lab.hosts import Host
from lab.processes import running, wait_until

THUMBPRINT = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
OTHER_THUMBPRINT = "LPJNul-wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ"
_STANDS = "Answering any token for "


class Answerer:
    """A running program, and the lines of its log."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def capture(self) -> str:
        """The way in which it captures packets."""
        found = (re.search("are captured by ([a-z-]+)", line) for line in self.lines)
        return next(match.group(1) for match in found if match)

    @property
    def answered(self) -> list[str]:
        """The lines about answered requests."""
        return [line for line in self.lines if " answered in " in line]

    def wait_for(self, words: str, count: int = 1) -> None:
        """Wait until the log has so many lines with some words."""
        wait_until(lambda: sum(words in line for line in self.lines) >= count, f"{words!r} is in {self.lines}")

    def memory(self) -> int:
        """Return its resident set, in kB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found
        return int(found.group(1))

    def descriptors(self) -> int:
        """Return how many files it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def seconds(self) -> float:
        """Return the CPU time that it has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def wakeups(self) -> int:
        """Return how often its threads have waited for something until now."""
        found = [path.read_text() for path in Path(f"/proc/{self.process.pid}/task").glob("*/status")]
        return sum(int(count) for text in found for count in re.findall(r"voluntary_ctxt_switches:\s+(\d+)", text))

    def _read(self) -> None:
        assert self.process.stderr
        for line in self.process.stderr:
            self.lines.append(line.rstrip())


def command(host: Host, *arguments: str) -> list[str]:
    """Return the command that runs it on a host."""
    return host.command(sys.executable, "-m", "certbot_standalone_nfq", "answer", *arguments)


@contextlib.contextmanager
def answerer(
    host: Host,
    *names: str,
    arguments: tuple[str, ...] = ("--thumbprint", THUMBPRINT),
    launcher: tuple[str, ...] = (),
) -> Iterator[Answerer]:
    """Run it on a host, for names, started by another program if need be; it answers when the context begins."""
    given = [word for name in names for word in ("-d", name)]
    with running([*launcher, *command(host, *given, *arguments)], stderr=subprocess.PIPE) as process:
        run = Answerer(process)
        wait_until(lambda: process.poll() is not None or any(_STANDS in line for line in run.lines), "it answers")
        if process.poll() is not None:
            raise RuntimeError(f"it has ended: {run.lines}")
        yield run
