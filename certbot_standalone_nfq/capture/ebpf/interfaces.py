"""On which interfaces packets are looked at, as interfaces come, change and go.

A packet must pass our program while it is as it came, and only where the machine's own traffic is: so of interfaces
that are joined to one, either that one or its ports.
"""

from __future__ import annotations

import contextlib
import errno
import logging
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.capture.ebpf import filters
from certbot_standalone_nfq.capture.ebpf.attachment import Attachment, Direction, attach
from certbot_standalone_nfq.host.links import Changes, Link, links

logger = logging.getLogger(__name__)

_ETHERNET, _LOOPBACK = 1, 772  # include/uapi/linux/if_arp.h
_OTHERS = frozenset((512, 519, 768, 769, 776, 778, 823, 0xFFFE))
"""PPP, RAWIP, TUNNEL, TUNNEL6, SIT, IPGRE, IP6GRE, NONE: IP packets, on some kernels behind a header."""
_JOINED = frozenset(("bond", "team"))
"""Packets of their ports are theirs, as they came."""
_BRIDGE = "bridge"
_BRIDGE_FILTERS = ("bridge-nf-call-iptables", "bridge-nf-call-ip6tables")
_GONE = (errno.ENODEV, errno.ENXIO)


class Programs(Protocol):
    """Descriptors of the programs, by the length of the link header: 14 bytes, or 0 for any other."""

    def ingress(self, link_header: int, *, other_hosts: bool) -> int:
        """Return what looks at arriving packets: also at those for other hosts' link addresses, or not."""

    def egress(self, link_header: int) -> int:
        """Return what looks at packets that leave."""


class Place(NamedTuple):
    """Where programs are needed, and which."""

    interface: int
    """Its index."""
    link_header: int
    other_hosts: bool
    """Whether packets for other link addresses count: a bridge's port has another address than the bridge."""


def places(found: Iterable[Link], *, bridges_filter: bool) -> dict[Place, Link]:
    """Return where programs are needed, whether the interface is up or not.

    Where bridges have packets pass the firewall, these are translated before the bridge's own interface sees them.
    """
    return {
        Place(link.index, header, link.port_of == _BRIDGE): link
        for link in found
        for header in (_link_header(link),)
        if header is not None and not _is_seen_elsewhere(link, bridges_filter)
    }


def _link_header(link: Link) -> int | None:
    if link.hardware in (_ETHERNET, _LOOPBACK):
        return 14
    return 0 if link.hardware in _OTHERS else None


def _is_seen_elsewhere(link: Link, bridges_filter: bool) -> bool:
    if link.port_of == _BRIDGE:
        return not bridges_filter
    return link.port_of in _JOINED or (link.kind == _BRIDGE and bridges_filter)


def bridges_filter(settings: Path = Path("/proc/sys/net/bridge")) -> bool:
    """Whether packets of bridges pass iptables."""
    values = []
    for name in _BRIDGE_FILTERS:
        with contextlib.suppress(OSError):
            values.append((settings / name).read_text(encoding="ascii").strip())
    return "1" in values


class Interfaces:
    """Programs on all interfaces that matter, from `attach` until `close`. For one thread at a time."""

    def __init__(self, programs: Programs) -> None:
        """Prepare: this attaches nothing. Raises OSError. The programs stay the caller's."""
        self._programs = programs
        self._attached: dict[Place, list[Attachment]] = {}
        with contextlib.ExitStack() as opened:
            self._changes = Changes()  # first, so that no change is missed
            opened.callback(self._changes.close)
            self._owner = filters.Owner()
            opened.callback(self._owner.close)
            opened.callback(self._detach_all)
            self._opened = opened.pop_all()

    def attach(self) -> None:
        """Attach everywhere. Raises OSError, and errors.CaptureUnavailable; then `close` undoes what was done."""
        for place, link in self._wanted().items():
            self._attach(place, link)

    def fileno(self) -> int:
        """Return a descriptor that is readable when `follow` has something to do."""
        return self._changes.fileno()

    def follow(self) -> None:
        """Attach to interfaces that have come, and detach from those that left. Raises nothing."""
        try:
            gone = self._changes.gone()
            wanted = self._wanted()
        except OSError as error:
            logger.warning("New network interfaces are not noticed: %s", error)
            return
        for place in [each for each in self._attached if each.interface in gone or each not in wanted]:
            self._detach(place)
        for place, link in wanted.items():
            if place not in self._attached:
                self._try_to_attach(place, link)

    def _wanted(self) -> dict[Place, Link]:
        found = places(links(), bridges_filter=bridges_filter())
        return {place: link for place, link in found.items() if link.up or place in self._attached}

    def _try_to_attach(self, place: Place, link: Link) -> None:
        try:
            self._attach(place, link)
        except (OSError, errors.Error) as error:
            logger.warning("Requests that come by the new interface %s are not answered: %s", link.name, error)

    def _attach(self, place: Place, link: Link) -> None:
        programs = {
            Direction.EGRESS: self._programs.egress(place.link_header),
            Direction.INGRESS: self._programs.ingress(place.link_header, other_hosts=place.other_hosts),
        }
        attachments: list[Attachment] = []
        with contextlib.ExitStack() as undo, contextlib.suppress(_Gone):
            for direction, program in programs.items():
                attachments.append(_attach_to(link, direction, program, self._owner))
                undo.callback(attachments[-1].close)
            undo.pop_all()
            self._attached[place] = attachments

    def _detach(self, place: Place) -> None:
        for attachment in reversed(self._attached.pop(place)):
            attachment.close()

    def _detach_all(self) -> None:
        for place in list(self._attached):
            self._detach(place)

    def close(self) -> None:
        """Detach everywhere. Calling it again is no error."""
        self._opened.close()


class _Gone(Exception):
    """An interface has left since it was listed."""


def _attach_to(link: Link, direction: Direction, program: int, owner: filters.Owner) -> Attachment:
    try:
        return attach(link.index, direction, program, owner)
    except OSError as error:
        if error.errno in _GONE:
            raise _Gone from error
        raise
