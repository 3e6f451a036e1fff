"""What pictures are made of: boxes with text, arrows, and the sheet they are on. Lengths are in pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from typing import Protocol

LINE = 17
"""From one line of text to the next."""

STYLE = """
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


class Element(Protocol):
    """A part of a picture."""

    def draw(self) -> Iterator[str]:
        """Yield its elements, as SVG."""


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
            yield text(kind, self.x + 12, self.y + 21 + number * LINE, line)


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
            yield text("note", *self.at, self.label)


_HEADS = ("usual", "copy", "taken")


def sheet(
    width: int, height: int, title: str, body: Iterable[str], *, style: str = STYLE, heads: Iterable[str] = _HEADS
) -> str:
    """Return a picture of SVG elements, with a title for those who do not see it, and the heads of its arrows."""
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">',
            f"  <title>{escape(title)}</title>",
            f"  <style>{style}  </style>",
            "  <defs>",
            *(f"    {_head(kind)}" for kind in heads),
            "  </defs>",
            f'  <rect class="page" width="{width}" height="{height}"/>',
            *(f"  {element}" for element in body),
            "</svg>",
            "",
        ]
    )


def drawn(elements: Iterable[Element]) -> Iterator[str]:
    """Yield the SVG of some elements."""
    for each in elements:
        yield from each.draw()


def text(kind: str, x: int, y: int, words: str) -> str:
    """Return a line of text, whose base line begins at a point."""
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(words)}</text>'


def _head(kind: str) -> str:
    marker = (
        f'<marker id="head-{kind}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" markerHeight="8" orient="auto">'
    )
    return f'{marker}<path class="head head-{kind}" d="M0,0 L8,4 L0,8 z"/></marker>'
