"""`make bench-data-long`: what a row costs and what processes hold while tables grow."""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from gyral.client.sending.progress import Show, bar
from gyral.testkit.backends import start_backends
from tests.bench import ingest, validate, visible
from tests.bench.feed import STREAM, workers
from tests.bench.growing import Case, Grown, Stage, grown
from tests.bench.report import (
    OUT,
    LongReport,
    Memory,
    Point,
    Seconds,
    Series,
    machine,
    publish,
    today,
)
from tests.bench.residence import memory_of, sampled
from tests.bench.rows import WINDOW_ROWS
from tests.bench.visible import Visible

_SLABS = 20
"""Of the largest table; smaller tables are whole numbers of the same slabs."""
_FEW_SLABS = 4
_LEAST_SLAB = 30_000
"""Rows of one of validation's batches: of smaller slabs only the wait for more is measured."""
_LEAST_ROWS = 20_000
_REMEMBER_H = 24.0
"""Validation's own default: a run of minutes forgets nothing."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the tables told."""

    series: Sequence[Series]
    memory: Sequence[Memory]
    visible: Visible


def slabs_of(rows: int) -> int:
    """Return in how many slabs a table of so many rows is made."""
    return _SLABS if rows >= _SLABS * _LEAST_SLAB else _FEW_SLABS


async def measure(home: Path, rows: int, show: Show) -> Outcome:
    """Grow one table to `rows` rows and smaller ones beside it, on a stack of our own."""
    backends = await asyncio.to_thread(start_backends, home)
    try:
        await validate.declare(backends.kafka_brokers)
        with workers() as pool:
            stage = Stage(backends, home, pool, show, slab=rows // slabs_of(rows))
            return await _all(stage, rows)
    finally:
        await asyncio.to_thread(backends.stack.down)


async def _all(stage: Stage, rows: int) -> Outcome:
    """Grow the tables, one after the other."""
    async with grown(stage, Case(rows, partitions=4)) as largest:
        memory = [memory_of("validation-0", largest.samples, remember_h=0.0)]
        seen, door = await _through_ingestion(stage, largest, rows // 10)
    series, memory = [largest.series], [*memory, door]
    async with grown(stage, Case(rows // 4, partitions=4, remember_h=_REMEMBER_H)) as full:
        memory.append(memory_of("validation-0", full.samples, remember_h=_REMEMBER_H))
        series.append(full.series)
    for case in (
        Case(rows // 4, partitions=1),
        Case(rows // 4, partitions=2),
        Case(max(rows // 10, stage.slab), partitions=2, processes=2),
        Case(max(rows // 10, stage.slab), partitions=4, processes=2),
    ):
        async with grown(stage, case) as table:
            series.append(table.series)
    return Outcome(series, memory, seen)


async def _through_ingestion(stage: Stage, largest: Grown, rows: int) -> tuple[Visible, Memory]:
    """Send more rows over HTTP, at half of what validation can do, and watch."""
    rate = largest.series.points[-1].rows_per_s / 2
    stage.show("rows over HTTP")
    async with ingest.ingestion(stage.backends, STREAM) as door:
        name = "ingestion"
        async with sampled(largest.dsn, {name: door.pid}) as samples:
            seen = await visible.run(
                largest.dsn, door.url, ingest.SECRET, rate=rate, seconds=rows / rate
            )
        return seen, memory_of(name, samples)


def report(found: Outcome, *, rows: int, seconds: float) -> LongReport:
    """Return the figures as the one JSON object."""
    largest = found.series[0]
    fifth = max(1, len(largest.points) // 5)
    alone = [one for one in found.series if one.processes == 1 and one.remember_h == 0.0]
    sizes = sizes_of(rows)
    return LongReport(
        date=today(),
        machine=machine(),
        seconds=round(seconds),
        rows=rows,
        window_rows=WINDOW_ROWS,
        rows_per_s={
            str(one.partitions): {
                str(point.rows): point.rows_per_s for point in one.points if point.rows in sizes
            }
            for one in sorted(alone, key=lambda one: one.partitions)
        },
        cost_growth=round(_cost(largest.points[-fifth:]) / _cost(largest.points[:fifth]), 3),
        series=found.series,
        memory=found.memory,
        visible_s=Seconds(p50=round(found.visible.p50, 2), p99=round(found.visible.p99, 2)),
        visible_rows_per_s=round(found.visible.rows_per_s),
    )


def sizes_of(rows: int) -> Sequence[int]:
    """Return the sizes of a table that are told of: 1, 5 and 20 million of 20 million rows."""
    return rows // slabs_of(rows), rows // 4, rows


def tables(told: LongReport) -> Sequence[Table]:
    """Return the figures for people."""
    rates = Table(
        "partitions", "processes", "rows", "rows/s", "core us a row", title="tables that grow"
    )
    for one in told.series:
        if one.remember_h:
            continue
        for point in one.points:
            if point.rows in sizes_of(told.rows) or one.processes > 1:
                cost = point.core_us_per_row["validation"]
                rates.add_row(
                    str(one.partitions),
                    str(one.processes),
                    f"{point.rows:,}",
                    f"{point.rows_per_s:,.0f}",
                    f"{cost:.1f}",
                )
    held = Table(
        "process", "rows", "MB after 10 %", "MB at the end", "MB/million", "without identities"
    )
    for each in told.memory:
        kept = "" if not each.remember_h else f", remembers {each.remember_h:.0f} h"
        held.add_row(
            f"{each.process}{kept}",
            f"{each.rows:,}",
            f"{each.warm_mb:.0f}",
            f"{each.end_mb:.0f}",
            f"{each.mb_per_million_rows:.1f}",
            f"{each.rest_mb_per_million_rows:.1f}",
        )
    return rates, held


def _cost(points: Sequence[Point]) -> float:
    """Return microseconds of a core that validation spends on a row."""
    return sum(point.core_us_per_row["validation"] for point in points) / len(points)


def main() -> None:
    """Measure and print tables, then one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.long", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000_000, help="in the largest table")
    parser.add_argument("--out", type=Path, default=OUT, help="folder for the report")
    chosen = parser.parse_args()
    if chosen.rows < _LEAST_ROWS or chosen.rows % _SLABS:
        parser.error(
            f"--rows: expected a multiple of {_SLABS} of at least {_LEAST_ROWS};"
            f" found {chosen.rows}"
        )
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gyral-bench-") as folder, bar() as show:
        found = asyncio.run(measure(Path(folder), chosen.rows, show))
    told = report(found, rows=chosen.rows, seconds=time.monotonic() - began)
    for table in tables(told):
        Console().print(table)
    publish(told, chosen.out)


if __name__ == "__main__":
    main()
