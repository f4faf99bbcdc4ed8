"""A line chart over event time or sizes as inline SVG, drawn with the page's own colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from gyral.client.report.axis import Axis, every, round_ticks, tick_names

WIDTH, HEIGHT = 860, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 26, 34
_LETTER, _APART = 6, 10
"""Widths on the axis of time: of a name's letter, and of the room between two names."""


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at one moment."""

    at: float
    """Where on the axis, as a share of its length."""
    kind: str
    """Which class of the page colours it."""
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over one axis, with marks below them."""

    title: str
    axis: Axis
    lines: Mapping[str, Sequence[float | None]]
    """Class of a line to its values at the axis' points, or at the first of them."""
    marks: Sequence[Mark] = ()
    floor: float | None = None
    """Where the axis of values begins; None: below the least of them."""

    def svg(self) -> str:
        """Return the chart; nothing where there is nothing to draw."""
        values = [each for line in self.lines.values() for each in line if each is not None]
        if not values:
            return ""
        low = min(values) if self.floor is None else self.floor
        ticks = round_ticks(low, max(values))
        parts = [
            *self._grid(ticks),
            *self._names(),
            *self._marks(),
            *(part for name in self.lines for part in self._line(name, ticks)),
        ]
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.title)}">'
            f'<text class="title" x="{_LEFT}" y="14">{escape(self.title)}</text>'
            f"{''.join(parts)}</svg>"
        )

    @staticmethod
    def _x(share: float) -> float:
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * share

    @staticmethod
    def _y(value: float, ticks: Sequence[float]) -> float:
        share = (ticks[-1] - value) / (ticks[-1] - ticks[0])
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * share

    def _grid(self, ticks: Sequence[float]) -> list[str]:
        return [
            f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" '
            f'y2="{y:.1f}"/><text class="tick" x="{_LEFT - 6}" y="{y + 4:.1f}" '
            f'text-anchor="end">{name}</text>'
            for tick, name in zip(ticks, tick_names(ticks), strict=True)
            for y in [self._y(tick, ticks)]
        ]

    def _names(self) -> list[str]:
        """Draw the axis' ticks, and each one's name or each n-th's where they are many."""
        bottom = HEIGHT - _BOTTOM
        named = self.axis.ticks
        width = _LETTER * max((len(name) for _, name in named), default=0)
        step = every(len(named), WIDTH - _LEFT - _RIGHT, width + _APART)
        parts = []
        for number, (at, name) in enumerate(named):
            x = self._x(at)
            parts.append(
                f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" '
                f'y1="{bottom}" y2="{bottom + 5}"/>'
            )
            if number % step == 0:
                parts.append(
                    f'<text class="tick" x="{min(x, WIDTH - width / 2):.1f}" '
                    f'y="{HEIGHT - 8}" text-anchor="middle">{escape(name)}</text>'
                )
        return parts

    def _marks(self) -> list[str]:
        bottom = HEIGHT - _BOTTOM
        return [
            f'<g class="mark {escape(mark.kind)}"><title>{escape(mark.text)}</title>'
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{_TOP}" y2="{bottom}"/>'
            f'<circle cx="{x:.1f}" cy="{bottom}" r="4"/></g>'
            for mark in self.marks
            for x in [self._x(mark.at)]
        ]

    def _line(self, name: str, ticks: Sequence[float]) -> list[str]:
        points = [
            (self._x(at), self._y(value, ticks))
            for at, value in zip(self.axis.points, self.lines[name], strict=False)
            if value is not None
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
        return [f'<g class="line {escape(name)}"><polyline points="{path}"/>{dots}</g>']
