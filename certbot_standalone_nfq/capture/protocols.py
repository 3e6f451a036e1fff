"""What the session needs of a way to capture, whichever it is."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Sequence
from typing import Any, ClassVar, Protocol, TypeVar

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.engine.protocols import Selector
from certbot_standalone_nfq.engine.verdicts import Verdict


def port_of(selectors: Sequence[Selector]) -> int:
    """Return the port that selectors share. Raises ValueError if they are for several: each takes its own capture."""
    ports = {selector.port for selector in selectors}
    if len(ports) != 1:
        raise ValueError(f"selectors of one port are needed, not of {len(ports)}")
    return ports.pop()


class CapturedPacket(Protocol):
    """A packet that waits for a verdict. Read-only."""

    @property
    def payload(self) -> bytes:
        """The packet from its IP header on, perhaps only its first bytes."""

    @property
    def length(self) -> int:
        """The bytes of the whole packet."""

    @property
    def interface(self) -> int:
        """The index of the interface it came in by."""

    @property
    def mark(self) -> int:
        """Its mark (fwmark), before any rule of ours."""

    @property
    def verified(self) -> bool:
        """Whether the kernel vouches for the TCP checksum."""

    @property
    def forwarded(self) -> bool:
        """Whether it is for a server that is not on this machine, or in another network namespace.

        Then the capture itself is to show only packets of connections that exist.
        """

    @property
    def proven(self) -> bool:
        """Whether the capture has seen that its connection exists and expects its numbers, wherever the server is.

        Then a stranger cannot have sent the request.
        """


Packet = TypeVar("Packet", bound=CapturedPacket)
"""A capture's own class of packets: it may know more of them."""


class WayBack(Protocol):
    """How the answers of one connection leave."""

    def send(self, packet: bytes) -> None:
        """Send an answer, from its IP header on. Raises OSError."""


class Capture(Protocol[Packet]):
    """Packets of one run, from the opening on.

    One thread receives, decides and abandons; all else but `fileno` may be called by another meanwhile.
    """

    by_rules: ClassVar[bool]
    """Whether it depends on rules, which other programs can remove."""

    def fileno(self) -> int:
        """Return a descriptor that is readable when `receive` has something."""

    def receive(self) -> Sequence[Packet]:
        """Return packets that have come, without waiting; none left is an empty sequence."""

    def decide(self, packet: Packet, verdict: Verdict, replacement: bytes | None = None) -> None:
        """Give a packet its one verdict; with REPLACE, it goes on as the replacement. Raises OSError."""

    def expect(self, keys: Collection[bytes]) -> None:
        """Be told all keys that are pending, whenever they change: packets with others need not be captured.

        Until the first call, none are. Raises OSError.
        """

    def way_back(self, packet: Packet) -> WayBack | None:
        """Return how the answers to a packet's connection leave, or None if as packets of this machine do.

        Raises OSError.
        """

    def restore(self) -> bool:
        """Capture again if another program ended it; once only, unless the capture is a lasting one.

        Return whether it was ended, now or still. Raises one of the package's errors if that fails.
        """

    def withdraw(self) -> None:
        """Capture no further packets. Those that came before can still be received and decided on.

        Raises one of the package's errors if that cannot be done; packets then still come.
        """

    def abandon(self) -> None:
        """Let all packets pass from now on, at once: the loop cannot decide any more. `close` is still to be called."""

    def close(self) -> None:
        """Release everything, `withdraw` included if it has not been called. Packets left get no verdict from us.

        Raises one of the package's errors if something stays behind. Calling it again is no error.
        """


class Backend(Protocol):
    """One way to capture."""

    @property
    def name(self) -> str:
        """As in the option that chooses it."""

    @property
    def kind(self) -> str:
        """What it has in common with other backends: those of a kind are hindered by the same rules of others."""

    @property
    def burden(self) -> int:
        """How much of bystanders' traffic leaves the kernel: nothing if 0. Backends with less are tried first."""

    @property
    def tracks(self) -> bool:
        """Whether the kernel tracks connections on account of it."""

    def unsupported(self, selectors: Sequence[Selector] = ()) -> errors.Error | None:
        """Return why it cannot work here, or not capture what the selectors select, or None. This changes nothing."""

    def open(self, selectors: Sequence[Selector], held: contextlib.ExitStack) -> Capture[Any]:
        """Capture what the selectors select. All or nothing: raises one of the package's errors, with nothing left.

        Whatever has to be undone is put on `held`, which is empty, before it is done: an interruption (Ctrl-C) may come
        at any moment, and what only this method or its result knows of would be lost. `Capture.close` closes `held`.
        """
