"""A helper process that removes the rules if this one is killed.

It is a shell that reads from a pipe whose other end only this process has, and the firewall programs while they
run: so it sees the end of the pipe once nobody is left who could still add a rule. It runs in a session of
its own and ignores the signals that a terminal or an init system sends to all processes of a service at once.
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

    `pipe` is the descriptor whose end, in this process and in those that inherit it, the helper waits for.
    """

    def __init__(self) -> None:
        self._read_end, self.pipe = os.pipe()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, commands: Sequence[Sequence[str]]) -> None:
        """Start the helper with the commands to run should this process die; a failing one stops no other.

        It stands when this returns: no signal can end it any more but SIGKILL.
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
        """End the helper without its doing anything. Calling it again is no error."""
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
