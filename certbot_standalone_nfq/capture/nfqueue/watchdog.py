"""A helper process that removes the rules if this one is killed.

It is a shell that reads from a pipe. Only this process, and the firewall programs while they run, hold the other end.
So the shell reads EOF once no process is left that could still add a rule. It runs in a session of its own and ignores
the signals that a terminal or an init system sends to all processes of a service at once.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Sequence

from certbot_standalone_nfq.capture.nfqueue import watchdog_script
from certbot_standalone_nfq.capture.nfqueue.removal import Removal

_DISMISS = b"dismiss\n"


class Watchdog:
    """The helper, from its start until it is dismissed.

    `pipe` is the descriptor that it waits on: until this process and those that inherit it have closed it.
    """

    def __init__(self) -> None:
        self._read_end, self.pipe = os.pipe()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, removals: Sequence[Removal], *, watch_for_stop: bool = False) -> None:
        """Start the helper with what to remove if this process dies, or also while it is stopped.

        It tries again until it is proven that nothing is left, for some hours: another program may hold the
        firewall's lock. When this returns it is ready: only SIGKILL can end it.
        """
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", watchdog_script.script(removals, watch_for_stop=watch_for_stop)],
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
        """End the helper without removing anything. Calling it again is no error."""
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

    def stay_on_duty(self) -> None:
        """Leave the helper to remove what is left when this process ends. It cannot be dismissed any more."""
        if self._process:
            self._process.returncode = 0  # else Popen warns, at the end, of a process that nobody waited for
            self._process = None
