"""The nft program: run once, or kept running, as a table that it owns exists only as long as it runs.

Kept running, it reads commands, a line each, from a pipe of ours. So it ends when this process does, in whatever way.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import subprocess
import time
from collections.abc import Sequence

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.host import command

logger = logging.getLogger(__name__)

TIMEOUT = 30.0
"""Seconds after which an nft that does not answer, or end, is killed."""
_QUESTION, _REPLY = "describe tcp dport", b"payload expression"
"""A command without an effect, and how its output begins: what is printed before belongs to earlier commands."""


def find() -> str:
    """Return nft's path. Raises errors.NoFirewallTool."""
    path = command.find_program("nft")
    if not path:
        raise errors.NoFirewallTool("nft", "nftables")
    return path


def run(program: str, *arguments: str, commands: Sequence[str] = (), hold_open: tuple[int, ...] = ()) -> str:
    """Run nft once, with commands on its input in one transaction, and return its output.

    Raises errors.FirewallRefused, or another of the package's errors if it hangs.
    """
    result = command.run(
        [program, *arguments, *(["-f", "-"] if commands else [])],
        seconds=TIMEOUT,
        stdin="".join(f"{each}\n" for each in commands),
        pass_fds=hold_open,
    )
    if result.timed_out:
        raise errors.firewall_hangs(program, TIMEOUT)
    if result.status is None:
        raise errors.FirewallRefused(program, result.failure)
    if result.status:
        raise refusal(program, result.stderr)
    return result.stdout


class Session:
    """nft kept running. Raises errors.FirewallRefused if it does not start or take commands."""

    def __init__(self, program: str, hold_open: tuple[int, ...]) -> None:
        self._program = program
        try:
            self._process = subprocess.Popen(
                [program, "-i"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={**os.environ, "HOME": "/dev/null"},  # or it would overwrite the user's history of commands
                cwd="/",
                start_new_session=True,  # a terminal's signals are not for it
                pass_fds=hold_open,
            )
        except OSError as error:
            raise errors.FirewallRefused(program, error.strerror or str(error)) from error

    def run(self, commands: Sequence[str]) -> None:
        """Run commands, each a transaction. Raises errors.FirewallRefused if any fails; the others are run."""
        assert self._process.stdin
        try:
            self._process.stdin.write("".join(f"{command}\n" for command in (*commands, _QUESTION)).encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise refusal(self._program, self._output_to_its_end()) from error
        said = self._output_to_the_reply()
        if "rror:" in said:
            raise refusal(self._program, said)

    def close(self) -> None:
        """End the program, and with it the tables that it owns. Calling it again is no error."""
        assert self._process.stdin
        assert self._process.stdout
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _output_to_the_reply(self) -> str:
        assert self._process.stdout
        said = b""
        deadline = time.monotonic() + TIMEOUT
        while not any(line.startswith(_REPLY) for line in said.splitlines()):
            readable, _, _ = select.select([self._process.stdout], [], [], max(0.0, deadline - time.monotonic()))
            if not readable:
                raise errors.firewall_hangs(self._program, TIMEOUT)
            octets = os.read(self._process.stdout.fileno(), 1 << 16)
            if not octets:
                raise refusal(self._program, said.decode(errors="replace"))
            said += octets
        return said.decode(errors="replace")

    def _output_to_its_end(self) -> str:
        assert self._process.stdout
        self._process.wait(TIMEOUT)
        return self._process.stdout.read().decode(errors="replace")


def refusal(program: str, said: str) -> errors.Error:
    """Return the error for what nft complains of."""
    logger.debug("%s: %s", program, said.strip())
    complaints = (line.partition("rror:")[2].strip() for line in said.splitlines() if "rror:" in line)
    return errors.FirewallRefused(program, next(complaints, "") or said.strip()[:200] or "it gave no reason")
