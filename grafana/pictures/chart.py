"""Small charts as SVG, written by hand: a title, what was asked, axes, a legend, and lines, areas or a heatmap.

A card of its own with a white ground, so that it can be read on a light page and on a dark one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from html import escape

Point = tuple[float, float]
"""Seconds since the epoch, value."""

WIDTH, HEIGHT = 640, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 18, 74, 30
_LETTER = 6.1  # px of the legend's font, on average
_GAP_STEPS = 2.5  # so many steps without a point break a line
COLORS = ("#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#a463f2", "#ff8ab7", "#9c6b4e")
_HEAT = ("#fff3e6", "#fdd9b0", "#fdb06a", "#f57f2c", "#d04f0a", "#8c2d04")
_STYLE = (
    "text{font:11px system-ui,-apple-system,'Segoe UI',Helvetica,Arial,sans-serif;fill:#57606a}"
    ".t{font-size:14px;font-weight:600;fill:#1f2328}.q{font:10px ui-monospace,Menlo,Consolas,monospace;fill:#8b949e}"
    ".g{stroke:#eaeef2}.m{stroke:#1f2328;stroke-dasharray:3 3}.mt{fill:#1f2328}"
    ".e{fill:#4269d0;stroke:#fff;stroke-width:.7}"
)


@dataclass(frozen=True)
class Line:
    """A series, by its name in the legend."""

    name: str
    points: Sequence[Point]


@dataclass(frozen=True)
class Frame:
    """What all charts have. `show` writes a value of the y axis; `marks` are moments with a word each."""

    title: str
    query: str
    start: float
    end: float
    step: float
    show: Callable[[float], str] = "{:g}".format
    marks: Sequence[tuple[float, str]] = ()
    limits: Sequence[tuple[float, str]] = ()
    """Values on the y axis that are drawn as a dashed line, with a word each."""
    parts: list[str] = field(default_factory=list)

    def x(self, moment: float) -> float:
        """Where a moment is."""
        return _LEFT + (moment - self.start) / (self.end - self.start) * (WIDTH - _LEFT - _RIGHT)

    @staticmethod
    def y(share: float) -> float:
        """Where a share of the height is, from below."""
        return HEIGHT - _BOTTOM - share * (HEIGHT - _TOP - _BOTTOM)

    def add(self, text: str) -> None:
        """Draw something on top of what is there."""
        self.parts.append(text)

    def axes(self, ticks: Iterable[tuple[float, str]]) -> None:
        """Grid lines: ticks of the y axis as (share of the height, label), and whole minutes."""
        for share, label in ticks:
            y = self.y(share)
            self.add(f'<path class="g" d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}"/>')
            self.add(f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{escape(label)}</text>')
        minutes = (self.end - self.start) / 60
        every = next(each for each in (0.5, 1, 2, 5, 10, 30, 60, 1e9) if minutes / each <= 10)
        for number in range(int(minutes / every) + 1):
            x = self.x(self.start + number * every * 60)
            self.add(f'<text x="{x:.1f}" y="{HEIGHT - 10}" text-anchor="middle">{number * every:g} min</text>')

    def legend(self, entries: Sequence[tuple[str, str]]) -> None:
        """(color, name) each, in a row under the query."""
        x = float(_LEFT)
        for color, name in entries:
            self.add(f'<rect x="{x:.1f}" y="52" width="9" height="9" rx="2" fill="{color}"/>')
            self.add(f'<text x="{x + 13:.1f}" y="60.5">{escape(name)}</text>')
            x += 13 + len(name) * _LETTER + 12

    def svg(self) -> str:
        """The whole picture."""
        for moment, word in self.marks:
            x = self.x(moment)
            self.add(f'<path class="m" d="M{x:.1f} {_TOP}V{HEIGHT - _BOTTOM}"/>')
            self.add(f'<text class="mt" x="{x + 5:.1f}" y="{_TOP + 11}">{escape(word)}</text>')
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
                f"<title>{escape(self.title)}</title><style>{_STYLE}</style>",
                f'<rect x=".5" y=".5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8" fill="#fff" stroke="#d0d7de"/>',
                f'<text class="t" x="14" y="23">{escape(self.title)}</text>',
                f'<text class="q" x="14" y="40">{escape(self.query)}</text>',
                *self.parts,
                "</svg>\n",
            ]
        )


def line_chart(frame: Frame, lines: Sequence[Line]) -> str:
    """Lines from 0 up; where a service did not answer there is a gap."""
    top = _scale(
        frame, max([value for line in lines for _, value in line.points] + [limit for limit, _ in frame.limits])
    )
    for limit, word in frame.limits:
        y = frame.y(limit / top)
        frame.add(f'<path d="M{_LEFT} {y:.1f}H{WIDTH - _RIGHT}" stroke="#cf222e" stroke-dasharray="5 4"/>')
        frame.add(
            f'<text x="{WIDTH - _RIGHT}" y="{y - 5:.1f}" text-anchor="end" style="fill:#cf222e">{escape(word)}</text>'
        )
    for color, line in zip(COLORS, lines, strict=False):
        for run in _runs(line.points, frame.step):
            path = "L".join(f"{frame.x(moment):.1f} {frame.y(value / top):.1f}" for moment, value in run)
            frame.add(f'<path d="M{path}" fill="none" stroke="{color}" stroke-width="1.8" stroke-linejoin="round"/>')
    frame.legend([(color, line.name) for color, line in zip(COLORS, lines, strict=False)])
    return frame.svg()


def stacked_chart(frame: Frame, lines: Sequence[Line]) -> str:
    """Areas upon each other; a series that has no point at a moment counts 0."""
    moments = sorted({moment for line in lines for moment, _ in line.points})
    floor = dict.fromkeys(moments, 0.0)
    areas = []
    for line in lines:
        values = dict(line.points)
        ceiling = {moment: floor[moment] + values.get(moment, 0.0) for moment in moments}
        areas.append((floor, ceiling))
        floor = ceiling
    top = _scale(frame, max(floor.values()))
    for color, (below, above) in zip(COLORS, areas, strict=False):
        for run in _runs([(moment, 0.0) for moment in moments], frame.step):
            edge = [f"{frame.x(at):.1f} {frame.y(above[at] / top):.1f}" for at, _ in run]
            back = [f"{frame.x(at):.1f} {frame.y(below[at] / top):.1f}" for at, _ in reversed(run)]
            frame.add(f'<path d="M{"L".join(edge + back)}Z" fill="{color}" fill-opacity=".82"/>')
    frame.legend([(color, line.name) for color, line in zip(COLORS, lines, strict=False)])
    return frame.svg()


def heatmap(frame: Frame, bounds: Sequence[str], cells: Sequence[Sequence[Point]], dots: Sequence[Point]) -> str:
    """A row for each bucket, from the smallest up, with its points; `dots` are (moment, place in rows).

    A point tells of the step before it.
    """
    rows = len(bounds)
    most = max((value for row in cells for _, value in row), default=1.0) or 1.0
    frame.axes(((number + 1) / rows, bound) for number, bound in enumerate(bounds))
    for number, row in enumerate(cells):
        y, height = frame.y((number + 1) / rows), frame.y(0) - frame.y(1 / rows)
        for color, moments in _by_heat(row, most).items():
            runs = _runs([(at, 0.0) for at in moments], frame.step, 1.5)
            spans = [(max(_LEFT, frame.x(run[0][0] - frame.step)), frame.x(run[-1][0])) for run in runs]
            path = "".join(f"M{a:.1f} {y:.1f}H{b:.1f}v{height:.1f}H{a:.1f}z" for a, b in spans if a < b)
            frame.add(f'<path d="{path}" fill="{color}"/>')
    for moment, place in dots:
        x, y = frame.x(moment), frame.y(place / rows)
        frame.add(f'<path d="M{x:.1f} {y - 3.5:.1f}l3.5 3.5l-3.5 3.5l-3.5 -3.5z" class="e"/>')
    frame.legend(
        [(_HEAT[1], "few"), (_HEAT[3], ""), (_HEAT[5], "many requests"), (COLORS[0], "exemplar: opens its trace")]
    )
    return frame.svg()


def _by_heat(row: Sequence[Point], most: float) -> dict[str, list[float]]:
    """Moments by color: logarithmic, as a few slow requests are what one looks for."""
    found: dict[str, list[float]] = {}
    for moment, value in row:
        if value > 0:
            share = math.log1p(value / most * 99) / math.log(100)
            found.setdefault(_HEAT[min(len(_HEAT) - 1, int(share * len(_HEAT)))], []).append(moment)
    return found


def _scale(frame: Frame, largest: float) -> float:
    """Draw the axes for values up to some; gives the value at the top."""
    raw = (largest or 1.0) / 4
    magnitude = 10.0 ** math.floor(math.log10(raw))
    tick = next(each * magnitude for each in (1, 2, 2.5, 5, 10) if each * magnitude >= raw)
    count = math.ceil(largest / tick) or 1
    frame.axes((number / count, frame.show(number * tick)) for number in range(count + 1))
    return count * tick


def _runs(points: Sequence[Point], step: float, gap: float = _GAP_STEPS) -> list[list[Point]]:
    """Points with no gap of so many steps between them."""
    runs: list[list[Point]] = []
    for point in points:
        if not runs or point[0] - runs[-1][-1][0] > gap * step:
            runs.append([])
        runs[-1].append(point)
    return runs
