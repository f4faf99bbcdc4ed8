"""A line chart over event time or sizes as inline SVG, drawn with the page's own colours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 860, 300
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 16, 26, 34
_TICKS = 4


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at one moment."""

    at: float
    """Where on the axis, in its own unit."""
    kind: str
    """Which class of the page colours it."""
    text: str


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines over one axis, with marks below them."""

    title: str
    labels: Sequence[str]
    """Names of the axis' positions 0, 1, 2 ..."""
    lines: Mapping[str, Sequence[float | None]]
    """Class of a line to its values at those positions."""
    marks: Sequence[Mark] = ()
    floor: float | None = None
    """Where the axis of values begins; None: below the least of them."""
    digits: int = 3
    """Of a value at the axis, after the point."""

    def svg(self) -> str:
        """Return the chart."""
        values = [each for line in self.lines.values() for each in line if each is not None]
        if not values:
            return ""
        margin = 0.08 * (max(values) - min(values)) or 0.01
        low = min(values) - margin if self.floor is None else self.floor
        high = max(values) + margin
        parts = [
            *self._grid(low, high),
            *self._marks(),
            *(part for name in self.lines for part in self._line(name, low, high)),
        ]
        return (
            f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(self.title)}">'
            f'<text class="title" x="{_LEFT}" y="14">{escape(self.title)}</text>'
            f"{''.join(parts)}</svg>"
        )

    def _x(self, position: float) -> float:
        steps = max(1, len(self.labels) - 1)
        return _LEFT + (WIDTH - _LEFT - _RIGHT) * min(max(position, 0.0), steps) / steps

    @staticmethod
    def _y(value: float, low: float, high: float) -> float:
        return _TOP + (HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    def _grid(self, low: float, high: float) -> list[str]:
        parts = []
        for tick in range(_TICKS + 1):
            value = low + (high - low) * tick / _TICKS
            y = self._y(value, low, high)
            parts.append(
                f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" '
                f'y1="{y:.1f}" y2="{y:.1f}"/><text class="tick" x="{_LEFT - 6}" '
                f'y="{y + 4:.1f}" text-anchor="end">{value:.{self.digits}f}</text>'
            )
        for position, label in enumerate(self.labels):
            parts.append(
                f'<text class="tick" x="{self._x(position):.1f}" y="{HEIGHT - 8}" '
                f'text-anchor="middle">{escape(label)}</text>'
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

    def _line(self, name: str, low: float, high: float) -> list[str]:
        points = [
            (self._x(position), self._y(value, low, high))
            for position, value in enumerate(self.lines[name])
            if value is not None
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        dots = "".join(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>' for x, y in points)
        return [f'<g class="line {escape(name)}"><polyline points="{path}"/>{dots}</g>']
