"""The pictures of docs/scale.md: what a row costs as tables grow, and what processes hold."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gyral.client.report.chart import Chart
from gyral.testkit.picture import Line, composed
from tests.bench.report import LongReport, Memory, Point, Series

_COLOURS = ("grey", "amber", "blue", "green", "red")
_GRID = 41
_MILLION = 1e6


def rates(told: LongReport) -> str:
    """Return rows a second, and core time a row, of every table as it grew."""
    shown = sorted(
        (one for one in told.series if not one.remember_h),
        key=lambda one: (one.processes, one.partitions),
    )
    largest = max(shown, key=lambda one: len(one.points)).points
    labels = [f"{point.rows / _MILLION:g}" for point in largest]
    key = [
        Line(f"t{at}", _named(one), _COLOURS[at % len(_COLOURS)])
        for at, one in enumerate(shown)
    ]

    def chart(title: str, value: Callable[[Point], float], digits: int) -> Chart:
        lines = {line.kind: _values(one, value) for line, one in zip(key, shown, strict=True)}
        return Chart(f"{title}, by million rows in the table", labels, lines, (), 0.0, digits)

    return composed(
        "What a row costs as its table grows",
        f"{told.date}, {told.machine.cores} cores, one row a Kafka record; core time of the"
        f" last fifth of {told.rows:,} rows over the first: {told.cost_growth:.2f}",
        key=key,
        charts=[
            chart("Thousand rows/s", lambda point: point.rows_per_s / 1000, 0),
            chart(
                "Microseconds of a core that validation spends on a row",
                lambda point: point.core_us_per_row["validation"],
                1,
            ),
        ],
    )


def memory(told: LongReport) -> str:
    """Return what each process held while rows went through it."""
    most = max(each.rows for each in told.memory)
    grid = np.linspace(0, most, _GRID)
    labels = [
        f"{rows / _MILLION:g}" if at % ((_GRID - 1) // 4) == 0 else ""
        for at, rows in enumerate(grid)
    ]
    key, lines = [], {}
    for at, each in enumerate(told.memory):
        line = Line(f"m{at}", process_of(each), _COLOURS[at % len(_COLOURS)])
        key.append(line)
        lines[line.kind] = _held(each, grid)
    return composed(
        "What a process holds as rows go through it",
        f"{told.date}; a window of {told.window_rows:,} rows is remembered, or all of 24 h",
        key=key,
        charts=[Chart("MB resident, by million rows", labels, lines, (), 0.0, 0)],
    )


def process_of(each: Memory) -> str:
    """Return which process it was, for people."""
    if not each.remember_h:
        return each.process.partition("-")[0]
    return f"validation, {each.remember_h:g} h"


def _named(one: Series) -> str:
    partitions = f"{one.partitions} partition{'s' if one.partitions > 1 else ''}"
    return partitions if one.processes == 1 else f"{partitions}, {one.processes} proc."


def _values(one: Series, value: Callable[[Point], float]) -> Sequence[float]:
    return [value(point) for point in one.points]


def _held(each: Memory, grid: NDArray[np.float64]) -> Sequence[float | None]:
    rows = [sample[0] for sample in each.samples]
    held = [sample[1] for sample in each.samples]
    return [
        float(np.interp(at, rows, held)) if at <= each.rows else None for at in grid.tolist()
    ]
