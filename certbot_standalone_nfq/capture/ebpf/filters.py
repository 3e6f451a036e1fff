"""Filters of traffic control that run a program: clsact and cls_bpf, include/uapi/linux/pkt_sched.h and pkt_cls.h."""

from __future__ import annotations

import contextlib
import errno
import secrets
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

from certbot_standalone_nfq import errors
from certbot_standalone_nfq.host import rtnetlink
from certbot_standalone_nfq.host.rtnetlink import NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL, attribute

_RTM_NEWQDISC, _RTM_DELQDISC, _RTM_GETQDISC = 36, 37, 38
_RTM_NEWTFILTER, _RTM_DELTFILTER, _RTM_GETTFILTER = 44, 45, 46
_TCA_KIND, _TCA_OPTIONS = 1, 2
_TCA_BPF_FD, _TCA_BPF_NAME, _TCA_BPF_FLAGS = 6, 7, 8
_TCA_BPF_FLAG_ACT_DIRECT = 1
_TC_H_CLSACT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_ETH_P_ALL = 3
_NAME = "certbot-nfq-"
_MADE_QDISC = "-clsact"
"""The end of the name of a filter whose owner made the qdisc too."""

_TC = struct.Struct("=B3xiIII")
"""`struct tcmsg`: family, interface, handle, parent, and in `info` priority and protocol."""


class Owner:
    """Who owns filters, as long as this process lives: a port number of netlink's, which is unique in the namespace."""

    def __init__(self) -> None:
        """Take a number. Raises OSError."""
        self._held = _bound(secrets.randbits(31) | 1 << 31)

    @property
    def name(self) -> str:
        """What its filters' names begin with."""
        return f"{_NAME}{self._held.getsockname()[0]:08x}"

    def close(self) -> None:
        """Free the number."""
        self._held.close()


def _bound(number: int) -> socket.socket:
    held = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    try:
        held.bind((number, 0))
    except BaseException:
        held.close()
        raise
    return held


class _Found(NamedTuple):
    """A filter that is there."""

    handle: int
    info: int
    name: str
    """Empty if it is none of cls_bpf's."""

    @property
    def is_ours(self) -> bool:
        return self.name.startswith(_NAME)

    @property
    def made_qdisc(self) -> bool:
        return self.name.endswith(_MADE_QDISC)

    @property
    def is_left(self) -> bool:
        """Whether the process that owns it has ended."""
        number = self.name[len(_NAME) :].partition("-")[0]
        try:
            _bound(int(number, 16)).close()
        except (OSError, ValueError, OverflowError):
            return False
        return True


@dataclass(frozen=True)
class Filter:
    """A filter of ours."""

    index: int
    parent: int
    handle: int
    info: int
    name: str

    def remove(self) -> None:
        """Remove it, and the qdisc if it was made for it and nobody else uses it. It is no error if it is gone."""
        with contextlib.suppress(OSError):
            if _Found(self.handle, self.info, self.name) in _filters(self.index, self.parent):
                _remove(self.index, self.parent, _Found(self.handle, self.info, self.name))


def add(index: int, program: int, owner: Owner, *, egress: bool) -> Filter:
    """Have an interface's packets pass a program, ahead of other filters; remove what dead runs left there.

    Raises OSError, and errors.CaptureUnavailable.
    """
    _remove_leftovers(index)
    parent = _EGRESS if egress else _INGRESS
    made = _make_qdisc(index)
    if not made:
        _require_room(index)
    name = owner.name + _MADE_QDISC * made
    options = attribute(_TCA_BPF_FD, struct.pack("=I", program)) + attribute(_TCA_BPF_NAME, name.encode() + b"\0")
    options += attribute(_TCA_BPF_FLAGS, struct.pack("=I", _TCA_BPF_FLAG_ACT_DIRECT))
    body = _TC.pack(0, index, 0, parent, socket.htons(_ETH_P_ALL))  # the kernel chooses the handle and the priority
    body += attribute(_TCA_KIND, b"bpf\0") + attribute(_TCA_OPTIONS, options)
    echoed = rtnetlink.change(_RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_ECHO, body)
    (content,) = (content for kind, content in echoed if kind == _RTM_NEWTFILTER)
    _, _, handle, _, info = _TC.unpack_from(content)
    return Filter(index, parent, handle, info, name)


def _remove_leftovers(index: int) -> None:
    there = [(parent, found) for parent in (_INGRESS, _EGRESS) for found in _filters(index, parent)]
    left = [(parent, found) for parent, found in there if found.is_ours and found.is_left]
    for parent, found in sorted(left, key=lambda each: each[1].made_qdisc):
        _remove(index, parent, found)


def _remove(index: int, parent: int, found: _Found) -> None:
    body = _TC.pack(0, index, found.handle, parent, found.info) + attribute(_TCA_KIND, b"bpf\0")
    rtnetlink.change(_RTM_DELTFILTER, 0, body)
    if found.made_qdisc and not any(_filters(index, each) for each in (_INGRESS, _EGRESS)):
        rtnetlink.change(_RTM_DELQDISC, 0, _qdisc(index))


def _make_qdisc(index: int) -> bool:
    """Make the qdisc; return whether it was not there."""
    try:
        rtnetlink.change(_RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, _qdisc(index))
    except OSError as error:
        if error.errno != errno.EEXIST:
            raise
        return False
    return True


def _qdisc(index: int) -> bytes:
    return _TC.pack(0, index, _CLSACT_HANDLE, _TC_H_CLSACT, 0) + attribute(_TCA_KIND, b"clsact\0")


def _require_room(index: int) -> None:
    """Raise errors.CaptureUnavailable if others' filters are there, or another qdisc, which has no egress."""
    there = [found for parent in (_INGRESS, _EGRESS) for found in _filters(index, parent)]
    if "clsact" not in _qdiscs(index) or not all(found.is_ours for found in there):
        raise errors.CaptureUnavailable(
            f"Another program filters the packets of {socket.if_indextoname(index)} by traffic control.",
            "Choose another way to capture with --standalone-nfq-capture, or use Linux 6.6 or later.",
        )


def _qdiscs(index: int) -> list[str]:
    found = rtnetlink.dump(_RTM_GETQDISC, _TC.pack(0, index, 0, 0, 0))
    bodies = [body for kind, body in found if kind == _RTM_NEWQDISC and _TC.unpack_from(body)[1] == index]
    return [rtnetlink.text(rtnetlink.attributes(body[_TC.size :]).get(_TCA_KIND, b"")) for body in bodies]


def _filters(index: int, parent: int) -> list[_Found]:
    found = rtnetlink.dump(_RTM_GETTFILTER, _TC.pack(0, index, 0, parent, 0))
    return list(_read(body for kind, body in found if kind == _RTM_NEWTFILTER))


def _read(bodies: Iterator[bytes]) -> Iterator[_Found]:
    """Yield filters: each has a handle, and what holds several of a kind has none."""
    for body in bodies:
        _, _, handle, _, info = _TC.unpack_from(body)
        options = rtnetlink.attributes(rtnetlink.attributes(body[_TC.size :]).get(_TCA_OPTIONS, b""))
        if handle:
            yield _Found(handle, info, rtnetlink.text(options.get(_TCA_BPF_NAME, b"")))
