"""The path of a packet while a challenge is pending, in detail."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from scripts.pictures.drawing import Arrow, Box, drawn, sheet, text

_WIDTH, _HEIGHT = 960, 776

_LANES = (
    Box(16, 16, 500, 744, ("Kernel",), "lane"),
    Box(548, 16, 396, 744, ("Certbot's process",), "lane"),
)
_BOXES = (
    Box(40, 52, 452, 34, ("A packet arrives: network card or loopback",)),
    Box(40, 118, 452, 34, ("Connection tracking, NAT of its destination, routing",)),
    Box(
        40,
        188,
        452,
        280,
        ("Our rules, first in the hook", "INPUT for a server on this machine, FORWARD for a container or VM"),
        "ours",
    ),
    Box(76, 238, 380, 50, ("Decided on already? (released mark)", "Take our marks off, and go on below our rules")),
    Box(76, 312, 380, 50, ("Payload selected? (prefilter)", "Remember the connection: by its mark, or in nft's set")),
    Box(76, 386, 380, 50, ("Connection remembered?", "Into the queue, or on while no program listens to it")),
    Box(40, 530, 452, 34, ("The machine's own rules, as if ours were not there",)),
    Box(40, 596, 452, 52, ("Server", "sees a reset in place of a challenge request, and all else unchanged")),
    Box(40, 694, 452, 52, ("The way out", "OUTPUT or FORWARD; addresses are translated back")),
    Box(
        572,
        52,
        348,
        68,
        ("Tap", "a packet socket ahead of all rules: copies of SYN,", "FIN, RST and challenge requests, for diagnoses"),
    ),
    Box(572, 188, 348, 150, ("Loop and engine: one verdict a packet",), "ours"),
    Box(572, 386, 172, 68, ("Queue", "4,096 packets may wait;", "when it is full, they pass")),
    Box(
        572,
        596,
        348,
        68,
        ("Injector", "raw sockets: our answer, acknowledgments and FIN,", "from the server's address and port"),
    ),
)
_VERDICTS = (
    ("PASS", "goes on to the server"),
    ("WATCH", "likewise; the next ones come to us too"),
    ("REPLACE", "a reset goes on instead: taken over"),
    ("DROP", "nothing goes on: taken over before"),
)
_ARROWS = (
    Arrow(((266, 86), (266, 118))),
    Arrow(((492, 69), (572, 69)), kind="copy"),
    Arrow(((266, 152), (266, 188))),
    Arrow(((266, 288), (266, 312)), "no", (274, 304)),
    Arrow(((266, 362), (266, 386))),
    Arrow(((266, 436), (266, 530)), "no", (274, 486)),
    Arrow(((76, 263), (58, 263), (58, 530)), "yes", (64, 486)),
    Arrow(((456, 411), (572, 411)), "yes", (464, 405), "taken"),
    Arrow(((658, 386), (658, 338)), kind="taken"),
    Arrow(((572, 208), (492, 208)), "PASS, WATCH: to the top of the hook (NF_REPEAT)", (572, 178), "taken"),
    Arrow(((800, 338), (800, 547), (492, 547)), "REPLACE", (732, 541), "taken"),
    Arrow(((880, 338), (880, 596)), "segments", (816, 578), "taken"),
    Arrow(((266, 564), (266, 596))),
    Arrow(((266, 648), (266, 694))),
    Arrow(((746, 664), (746, 720), (492, 720)), kind="taken"),
)


def svg() -> str:
    """Return the picture."""
    verdicts = (_verdict(row, *verdict) for row, verdict in enumerate(_VERDICTS))
    body = [*drawn((*_LANES, *_BOXES, *_ARROWS)), *itertools.chain.from_iterable(verdicts)]
    return sheet(_WIDTH, _HEIGHT, "The path of a packet while a challenge is pending", body)


def _verdict(row: int, name: str, meaning: str) -> Iterator[str]:
    y = 240 + row * 26
    yield text("title", 584, y, name)
    yield text("note", 664, y, meaning)
