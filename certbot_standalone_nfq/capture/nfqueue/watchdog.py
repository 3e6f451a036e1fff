"""A helper process that removes the rules if this one is killed.

It is a shell that reads from a pipe. Only this process, and the firewall programs while they run, hold the other end.
So the shell reads EOF once no process is left that could still add a rule. It runs in a session of its own and ignores
the signals that a terminal or an init system sends to all processes of a service at once.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from collections.abc import Sequence

_DISMISS = b"dismiss\n"


class Watchdog:
    """The helper, from its start until it is dismissed.

    `pipe` is the descriptor that it waits on: until this process and those that inherit it have closed it.
    """

    def __init__(self) -> None:
        self._read_end, self.pipe = os.pipe()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, commands: Sequence[Sequence[str]]) -> None:
        """Start the helper with the commands to run if this process dies; all are run, even if some fail.

        When this returns it is ready: only SIGKILL can end it.
        """
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", _script(commands)],
            stdin=self._read_end,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        assert self._process.stdout
        with self._process.stdout as output:
            output.readline()

    def dismiss(self) -> None:
        """End the helper without running the commands. Calling it again is no error."""
        if self.pipe < 0:
            return
        os.close(self._read_end)
        if self._process:
            with contextlib.suppress(BrokenPipeError):  # it is dead already
                os.write(self.pipe, _DISMISS)
        os.close(self.pipe)
        self.pipe = self._read_end = -1
        if self._process:
            self._process.wait()


def _script(commands: Sequence[Sequence[str]]) -> str:
    return "\n".join(
        [
            "trap '' HUP INT QUIT TERM PIPE",
            "echo ready; exec >/dev/null",
            "read -r message && exit 0",
            *(shlex.join(command) for command in commands),
        ]
    )
