"""Draw docs/pictures/packet-path.svg: python3 -m scripts.picture.

The picture is committed, and a test compares it with what this module draws. Lengths are in pixels.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

TARGET = Path(__file__).parent.parent / "docs" / "pictures" / "packet-path.svg"
_WIDTH, _HEIGHT = 960, 776
_LINE = 17
"""From one line of text to the next."""

_STYLE = """
    text { font: 13px sans-serif; fill: #1f2328; }
    .title { font-weight: bold; font-size: 14px; }
    .note { fill: #59636e; font-size: 12px; }
    .page { fill: #ffffff; }
    .lane { fill: #f6f8fa; stroke: #d1d9e0; }
    .box { fill: #ffffff; stroke: #59636e; }
    .ours { fill: #ddf4ff; stroke: #0969da; }
    .arrow { fill: none; stroke: #59636e; stroke-width: 1.5; }
    .copy { stroke-dasharray: 5 4; }
    .taken { stroke: #0969da; }
    .head { fill: #59636e; }
    .head-taken { fill: #0969da; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; }
      .note { fill: #9198a1; }
      .page { fill: #0d1117; }
      .lane { fill: #151b23; stroke: #3d444d; }
      .box { fill: #0d1117; stroke: #9198a1; }
      .ours { fill: #102a4c; stroke: #4493f8; }
      .arrow { stroke: #9198a1; }
      .taken { stroke: #4493f8; }
      .head { fill: #9198a1; }
      .head-taken { fill: #4493f8; }
    }
"""


@dataclass(frozen=True)
class Box:
    """A rectangle with lines of text, the first of them its title."""

    x: int
    y: int
    width: int
    height: int
    lines: tuple[str, ...]
    kind: str = "box"

    def draw(self) -> Iterator[str]:
        """Yield the elements."""
        yield (
            f'<rect class="{self.kind}" x="{self.x}" y="{self.y}" width="{self.width}" height="{self.height}" rx="6"/>'
        )
        for number, line in enumerate(self.lines):
            kind = "note" if number else "title"
            yield _text(kind, self.x + 12, self.y + 21 + number * _LINE, line)


@dataclass(frozen=True)
class Arrow:
    """A line through some points, with a label where it is wanted."""

    points: tuple[tuple[int, int], ...]
    label: str = ""
    at: tuple[int, int] = (0, 0)
    kind: str = "usual"
    """A class of the style, and of the arrow's head."""

    def draw(self) -> Iterator[str]:
        """Yield the elements."""
        points = " ".join(f"{x},{y}" for x, y in self.points)
        yield f'<polyline class="arrow {self.kind}" points="{points}" marker-end="url(#head-{self.kind})"/>'
        if self.label:
            yield _text("note", *self.at, self.label)


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
    body = [*_elements((*_LANES, *_BOXES, *_ARROWS)), *itertools.chain.from_iterable(verdicts)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">',
            "  <title>The path of a packet while a challenge is pending</title>",
            f"  <style>{_STYLE}  </style>",
            "  <defs>",
            *(f"    {_head(kind)}" for kind in ("usual", "copy", "taken")),
            "  </defs>",
            f'  <rect class="page" width="{_WIDTH}" height="{_HEIGHT}"/>',
            *(f"  {element}" for element in body),
            "</svg>",
            "",
        ]
    )


def _elements(drawn: Iterable[Box | Arrow]) -> Iterator[str]:
    for each in drawn:
        yield from each.draw()


def _verdict(row: int, name: str, meaning: str) -> Iterator[str]:
    y = 240 + row * 26
    yield _text("title", 584, y, name)
    yield _text("note", 664, y, meaning)


def _head(kind: str) -> str:
    marker = (
        f'<marker id="head-{kind}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    )
    return f'{marker}<path class="head head-{kind}" d="M0,0 L8,4 L0,8 z"/></marker>'


def _text(kind: str, x: int, y: int, words: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>'


if __name__ == "__main__":
    TARGET.write_text(svg())
