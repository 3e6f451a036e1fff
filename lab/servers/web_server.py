"""What all web servers have in common here, whatever program serves: processes, a configuration, logs."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from lab.hosts import Host
from lab.processes import run, running, wait_until

PAGE = "the site's own page\n"
SITE_PORT = 8080
"""Where the site is that a proxy is in front of."""
_START_SECONDS = 60
_numbers = itertools.count()


class UnexpectedLog(Exception):
    """A server's log has a line that nobody foresaw."""


@dataclass
class WebServer:
    """A running web server, with the processes and files of all that belongs to it."""

    version: str
    processes: Sequence[subprocess.Popen[str]]
    configuration: Sequence[Path]
    access: Path
    errors: Path
    """Where it writes what is no request; some write both into one file."""
    traces: Sequence[str] = ()
    """The lines, as patterns, that a client leaves in its logs that connects and hangs up without having asked."""

    def identity(self) -> tuple[object, ...]:
        """Return what must not change: all its processes, its configuration, which of its programs have ended."""
        trees = frozenset(each for process in self.processes for each in _tree(process.pid))
        files = tuple(hashlib.sha256(path.read_bytes()).hexdigest() for path in self.configuration)
        return trees, files, tuple(process.poll() for process in self.processes)

    def challenges(self) -> int:
        """Return how many challenge requests it has seen."""
        return self.access.read_bytes().count(b"acme-challenge")

    def remarks(self) -> Counter[str]:
        """Return all lines of its logs but those of requests, and but one that is being written."""
        found: Counter[str] = Counter()
        for path in {self.access, self.errors}:
            request = b"GET" if path == self.access else None
            with path.open("rb") as log:
                lines = (line for line in log if line.endswith(b"\n") and not (request and request in line))
                found.update(line.decode().rstrip("\n") for line in lines)
        return found

    def traces_since(self, before: Counter[str]) -> set[str]:
        """Return the patterns of the lines it has written since; a line that has none is an error."""
        return {self._trace(line) for line in self.remarks() - before}

    def _trace(self, line: str) -> str:
        for pattern in self.traces:
            if re.fullmatch(pattern, line):
                return pattern
        raise UnexpectedLog(line)

    @contextlib.contextmanager
    def logged(self) -> Iterator[str]:
        """Hand out a path to ask for; at the end, wait until that request, and so all before it, is in its log."""
        path = f"/?mark={next(_numbers)}-"  # no mark is the beginning of another
        begin = self.access.stat().st_size if self.access.exists() else 0
        yield path
        wait_until(functools.partial(_is_after, self.access, begin, path.encode()), f"{path} is in the log")


def _is_after(path: Path, begin: int, octets: bytes) -> bool:
    if not path.exists():
        return False
    with path.open("rb") as file:
        file.seek(begin)
        return octets in file.read()


def _tree(pid: int) -> Iterator[tuple[int, str]]:
    """Go through a process and all that descend from it, each with the time it was started at."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except FileNotFoundError:
        return
    yield pid, status.rpartition(")")[2].split()[19]
    for child in children:
        yield from _tree(child)


def package_version(package: str) -> str:
    """Return the version of an installed Debian package."""
    return run(["dpkg-query", "-W", "-f", "${Version}", package])


def make_site(folder: Path) -> Path:
    """Make a site of one page; return its folder."""
    site = folder / "site"
    site.mkdir(parents=True)
    (site / "index.html").write_text(PAGE)
    return site


def give_logs(folder: Path, user: str) -> Path:
    """Let a user have the folder and the error log, which is returned."""
    errors = folder / "error.log"
    errors.touch()
    for path in (folder, errors):
        shutil.chown(path, user)
    return errors


def write(path: Path, template: str, **values: object) -> Path:
    """Write a configuration file; @NAME@ in it stands for the value of that name."""
    text = re.sub("@([a-z]+)@", lambda name: str(values[name.group(1)]), template)
    path.write_text(text)
    return path


@contextlib.contextmanager
def serving(host: Host, errors: Path, *command: str, port: int = 80) -> Iterator[subprocess.Popen[str]]:
    """Run a server's program; ready when the context begins. What it prints is kept with its errors."""
    with (
        errors.open("a") as output,
        running(host.command(*command), stdin=subprocess.DEVNULL, stdout=output, stderr=output) as process,
    ):
        wait_until(lambda: process.poll() is not None or host.listens(port), "the server listens", _START_SECONDS)
        if process.poll() is not None:
            raise RuntimeError(f"{' '.join(command)}: status {process.returncode}\n{errors.read_text()}")
        yield process
