"""A table that grows slab by slab through real validation processes, watched all the while."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from gyral.client.sending.progress import Show
from gyral.testkit.backends import Backends, fresh_bucket, fresh_schema
from gyral.testkit.usage import cpu_s
from tests.bench import validate
from tests.bench.feed import (
    Feed,
    Prepared,
    dismiss_members,
    feeding,
    forget_sent,
    joined,
    make_anew,
)
from tests.bench.pacing import now_s
from tests.bench.report import Point, Series
from tests.bench.residence import Sample, sampled
from tests.bench.validate import commits, committed_rows, rate_between

_BACKENDS = ("kafka", "postgres", "minio")
_FORGET_EVERY_S = "5"
_ENOUGH_COMMITS = 8


@dataclass(frozen=True, slots=True)
class Stage:
    """Where tables grow."""

    backends: Backends
    folder: Path
    pool: ProcessPoolExecutor
    show: Show
    slab: int
    """Rows added at once: kept in Kafka and in memory at a time."""


@dataclass(frozen=True, slots=True)
class Case:
    """How a table grows."""

    rows: int
    partitions: int
    processes: int = 1
    remember_h: float = 0.0

    @property
    def knobs(self) -> Mapping[str, str]:
        """What validation is told. Forgetting is looked for as often as minutes need it."""
        return {
            "VALIDATION_REMEMBER_H": str(self.remember_h),
            "VALIDATION_FORGET_EVERY_S": _FORGET_EVERY_S,
        }

    def __str__(self) -> str:
        return f"{self.partitions} partitions, {self.processes} processes"


@dataclass(frozen=True, slots=True)
class Grown:
    """A table that is full, its processes still running."""

    series: Series
    samples: Sequence[Sample]
    dsn: str


@asynccontextmanager
async def grown(stage: Stage, case: Case) -> AsyncIterator[Grown]:
    """Grow a table on a topic made anew; its processes run until the block ends."""
    brokers = stage.backends.kafka_brokers
    await make_anew(brokers, case.partitions)
    async with (
        fresh_schema(stage.backends) as dsn,
        fresh_bucket(stage.backends.s3()) as blobs,
        AsyncExitStack() as running,
    ):
        env = {**validate.settings(stage.backends, dsn, blobs), **case.knobs}
        names = [f"validation-{number}" for number in range(case.processes)]
        processes = await asyncio.gather(
            *(
                running.enter_async_context(
                    validate.running({**env, "INSTANCE_ID": name}, stage.folder / f"{name}.log")
                )
                for name in names
            )
        )
        await joined(brokers, case.processes)
        pids = {name: one.pid for name, one in zip(names, processes, strict=True)}
        async with sampled(dsn, pids) as samples, feeding(brokers, stage.pool) as feed:
            points = await _fill(stage, case, feed, dsn, list(pids.values()))
        series = Series(
            partitions=case.partitions,
            processes=case.processes,
            remember_h=case.remember_h,
            points=points,
        )
        yield Grown(series, samples, dsn)
    await dismiss_members(brokers)


async def _fill(
    stage: Stage, case: Case, feed: Feed, dsn: str, pids: Sequence[int]
) -> list[Point]:
    """Add slab after slab. Core time counts what is done between slabs too, such as merges."""
    points: list[tuple[int, float, Mapping[str, float]]] = []
    conn = await asyncpg.connect(dsn)
    try:
        for first in range(0, case.rows, stage.slab):
            stage.show(f"{case}: making rows", first, first / case.rows)
            batches = await feed.prepared(first, stage.slab)
            spent = _spent(stage.backends, pids)
            stage.show(f"{case}: validating", first, first / case.rows)
            rate = await _rate(feed, batches, conn, first + stage.slab)
            points.append((first + stage.slab, rate, spent))
            await forget_sent(stage.backends.kafka_brokers, case.partitions)
        # Before the connection is closed: who is just ending is in no sum.
        ends = [*(spent for _, _, spent in points[1:]), _spent(stage.backends, pids)]
    finally:
        await conn.close()
    return [
        Point(
            rows=rows,
            rows_per_s=round(rate),
            core_us_per_row={
                name: round((end[name] - began[name]) / stage.slab * 1e6, 2) for name in began
            },
        )
        for (rows, rate, began), end in zip(points, ends, strict=True)
    ]


async def _rate(
    feed: Feed,
    batches: Prepared,
    conn: "asyncpg.Connection[asyncpg.Record]",
    wanted: int,
) -> float:
    """Send a slab and return the rate from the first commit after it was sent to the last."""
    seen = [(now_s(), await committed_rows(conn))]
    watching = asyncio.create_task(commits(conn, wanted))
    await feed.send(batches)
    sent_s = now_s()
    seen += await watching
    after = [one for one in seen if one[0] >= sent_s]
    # Of few commits the first and the last say little: then sending is timed as well.
    return rate_between(after if len(after) >= _ENOUGH_COMMITS else seen)


def _spent(backends: Backends, validation: Sequence[int]) -> Mapping[str, float]:
    """Return the core seconds spent so far, by whom."""
    statuses = backends.stack.statuses()
    spent = {name: cpu_s(statuses[name].pid or 0) for name in _BACKENDS}
    return {"validation": sum(map(cpu_s, validation)), **spent}
