"""What the plugin costs: bars for the ratios in docs/pictures/cost.json, which are those of docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scripts.pictures.drawing import sheet, text

DATA = Path(__file__).parents[2] / "docs" / "pictures" / "cost.json"
_WIDTH, _LEFT, _SCALE, _TOP = 960, 300, 540, 70
"""Pixels: the sheet, where bars begin, as long as the ratio 1, and above the first part."""
_ROW, _HEADING, _GAP = 24, 30, 14
_STYLE = """
    text { font: 13px sans-serif; fill: #1f2328; }
    .title { font-weight: bold; font-size: 14px; }
    .note { fill: #59636e; font-size: 12px; }
    .page { fill: #ffffff; }
    .bar { fill: #0969da; }
    .line { stroke: #d1d9e0; }
    .whole { stroke: #59636e; stroke-dasharray: 5 4; }
    @media (prefers-color-scheme: dark) {
      text { fill: #f0f6fc; }
      .note { fill: #9198a1; }
      .page { fill: #0d1117; }
      .bar { fill: #4493f8; }
      .line { stroke: #3d444d; }
      .whole { stroke: #9198a1; }
    }
"""


@dataclass(frozen=True)
class Bar:
    """A ratio, and where docs/performance.md has it."""

    label: str
    row: str
    ratio: float


@dataclass(frozen=True)
class Part:
    """Bars with a heading."""

    name: str
    section: str
    bars: tuple[Bar, ...]

    @property
    def height(self) -> int:
        """What it takes of the sheet."""
        return _HEADING + len(self.bars) * _ROW + _GAP


def parts() -> list[Part]:
    """Return what is to be shown."""
    data = json.loads(DATA.read_text())
    return [Part(each["name"], each["section"], tuple(Bar(**bar) for bar in each["bars"])) for each in data["parts"]]


def svg() -> str:
    """Return the picture."""
    shown = parts()
    height = _TOP + sum(part.height for part in shown) + _GAP
    title = json.loads(DATA.read_text())["title"]
    body = [text("title", 16, 28, title), *_grid(height), *_bars(shown)]
    return sheet(_WIDTH, height, title, body, style=_STYLE, heads=())


def _grid(height: int) -> Iterator[str]:
    for tenths in range(0, 11, 2):
        x = _LEFT + _SCALE * tenths // 10
        kind = "whole" if tenths == 10 else "line"
        yield f'<line class="{kind}" x1="{x}" y1="{_TOP - 10}" x2="{x}" y2="{height - 2 * _GAP}"/>'
        yield text("note", x - 9, _TOP - 16, f"{tenths / 10:.1f}")


def _bars(shown: list[Part]) -> Iterator[str]:
    y = _TOP
    for part in shown:
        yield text("title", 16, y + 18, part.name)
        for number, bar in enumerate(part.bars):
            yield from _bar(y + _HEADING + number * _ROW, bar)
        y += part.height


def _bar(y: int, bar: Bar) -> Iterator[str]:
    length = round(_SCALE * bar.ratio)
    yield text("label", 32, y + 13, bar.label)
    yield f'<rect class="bar" x="{_LEFT}" y="{y}" width="{length}" height="{_ROW - 6}"/>'
    yield text("label", _LEFT + max(length, _SCALE) + 12, y + 13, f"{bar.ratio:.2f}")
