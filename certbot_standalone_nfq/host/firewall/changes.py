"""Changes of nf_tables' rules as the kernel tells them, those by iptables' nf_tables variant included.

Of rules by the legacy variant, the kernel tells nothing: include/uapi/linux/netfilter/nfnetlink.h and nf_tables.h.
"""

from __future__ import annotations

import contextlib
import enum
import errno
import socket

from certbot_standalone_nfq.host import rtnetlink

_NETLINK_NETFILTER = 12
_GROUP_MASK = 1 << 6  # NFNLGRP_NFTABLES
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_NEW = (0, 3, 6)
_DELETED = (2, 5, 8)
"""NFT_MSG_DELTABLE, _DELCHAIN and _DELRULE."""
_MAX_DATAGRAM = 1 << 17


class Told(enum.Flag):
    """What was told since the last time."""

    NOTHING = 0
    ADDED = enum.auto()
    """Something was added whose message has one of the words."""
    REMOVED = enum.auto()
    """Something was removed whose message has one of the words, or may have been: some messages were lost."""


class RuleChanges:
    """Tells of changes from its making until `close`."""

    def __init__(self, *words: bytes) -> None:
        """Begin, for messages with one of some words in lower case. Raises OSError."""
        self._words = words
        self._kernel = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        try:
            self._kernel.setblocking(False)
            self._kernel.bind((0, _GROUP_MASK))
        except BaseException:
            self._kernel.close()
            raise

    def fileno(self) -> int:
        """Return a descriptor that is readable when something has changed."""
        return self._kernel.fileno()

    def take(self) -> Told:
        """Return what has been told since the last call, without waiting. Raises OSError."""
        told = Told.NOTHING
        with contextlib.suppress(BlockingIOError):
            while True:
                told |= self._receive()
        return told

    def _receive(self) -> Told:
        try:
            datagram = self._kernel.recv(_MAX_DATAGRAM)
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            return Told.REMOVED
        told = Told.NOTHING
        for kind, content in rtnetlink.messages(datagram):
            if kind >> 8 == _SUBSYSTEM and any(word in content.lower() for word in self._words):
                told |= _meaning(kind & 0xFF)
        return told

    def close(self) -> None:
        """End."""
        self._kernel.close()


def _meaning(kind: int) -> Told:
    if kind in _DELETED:
        return Told.REMOVED
    return Told.ADDED if kind in _NEW else Told.NOTHING
