"""Where an axis has its ticks: at round values, and with as many names as there is room for."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

_STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
_DECIMALS = 12
_EXACT = 1e-6


@dataclass(frozen=True, slots=True)
class Axis:
    """What a chart's lines run along; every place on it is a share of its length, 0 to 1."""

    ticks: Sequence[tuple[float, str]]
    """Place and name of each tick, in order."""
    points: Sequence[float]
    """Places of a line's values."""

    @classmethod
    def evenly(cls, names: Sequence[str]) -> Self:
        """Return one on which a value stands at every name; those without one get no tick."""
        steps = max(1, len(names) - 1)
        points = [at / steps for at in range(len(names))]
        ticks = [(at, name) for at, name in zip(points, names, strict=True) if name]
        return cls(ticks, points)


def round_ticks(low: float, high: float, most: int = 5) -> Sequence[float]:
    """Return round values at equal steps that enclose `low` and `high`.

    Args:
        low: smallest value shown.
        high: largest value shown, >= `low`.
        most: steps that `high - low` is divided into, at most.
    """
    width = (high - low) or abs(high) / 10 or 1.0
    least = width / most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(each * power for each in _STEPS if each * power >= least * (1 - _EXACT))
    first = math.floor(low / step + _EXACT)
    last = max(math.ceil(high / step - _EXACT), first + 1)
    return [number * step for number in range(first, last + 1)]


def tick_names(ticks: Sequence[float]) -> Sequence[str]:
    """Return ticks as text, all with the decimals that their step takes."""
    step = ticks[1] - ticks[0]
    decimals = next(
        (count for count in range(_DECIMALS) if abs(round(step, count) - step) < step * _EXACT),
        _DECIMALS,
    )
    return [f"{round(tick, decimals) + 0.0:.{decimals}f}" for tick in ticks]


def every(count: int, room: float, width: float) -> int:
    """Return n such that each n-th of so many names, each so wide, fits into the room."""
    return max(1, math.ceil(count * width / room))
