"""Expectations in real transactions: the same outcomes however the log is cut and by whom."""

import random
import uuid
from collections.abc import AsyncIterator
from importlib import resources

import asyncpg
import pytest

from gyral.contracts.specs.stream import Clock
from gyral.kit.db import Pool
from gyral.kit.tx import begin
from gyral.testkit.backends import migrated_pool
from gyral.validation.domain.expectations import Expected, expected_of
from gyral.validation.domain.standing import Standing
from gyral.validation.domain.watermark import PartitionTime, StreamTime
from gyral.validation.store.progress import Step, advance
from gyral.validation.store.sinks import SinkTx
from gyral.validation.store.watching import StaleDeclarationError
from tests.services.validation.expecting import EVERY, HOUR, a_batch, a_body

pytestmark = pytest.mark.live
PARTITIONS = (0, 1, 2)
ROWS = {"name": "enough", "kind": "row_count", "at_least": 3, "severity": "block"}
KNOWN = {
    "name": "known",
    "kind": "null_share",
    "field": "carrier",
    "at_most": 0.5,
    "severity": "block",
}


@pytest.fixture
async def pool(postgres_dsn) -> AsyncIterator[Pool]:
    folder = resources.files("gyral.validation") / "migrations"
    async with migrated_pool(postgres_dsn, service="validation", migrations=folder) as opened:
        yield opened


class Sink:
    """One stream's transactions, as any number of processes would make them."""

    def __init__(self, pool, *expectations, lateness_us=0, generation=1):
        self.pool = pool
        self.begin = begin(pool, SinkTx, service="validation")
        self.time = StreamTime(f"s-{uuid.uuid4().hex[:8]}", Clock.EVENT, lateness_us)
        self.declare(*expectations, generation=generation)

    def declare(self, *expectations, generation):
        self.expected = expected_of(a_body(*expectations), generation)

    async def take(self, rows, partition=0, *, expected: Expected | None = None):
        """Commit rows of one partition: (offset, event time, carrier, delay)."""
        known = expected or self.expected
        times_us = [time for _, time, _, _ in rows]
        observed = a_batch(
            known,
            times_us,
            partitions=[partition] * len(rows),
            offsets=[offset for offset, _, _, _ in rows],
            carrier=[carrier for _, _, carrier, _ in rows],
            delay=[delay for _, _, _, delay in rows],
        )
        times = {partition: PartitionTime(data_us=max(times_us))}
        await self._advance(
            Step(
                self.time, known, times, standing=Standing(1), rows=len(rows), observed=observed
            )
        )

    async def mark(self, at_us):
        """Commit a marker in every partition."""
        marks = {each: PartitionTime(marker_us=at_us) for each in PARTITIONS}
        await self._advance(Step(self.time, self.expected, marks))

    async def _advance(self, step):
        async with self.begin() as tx:
            await advance(tx, [step], partitions=PARTITIONS, lake_uri="s3://gyral/lake")

    async def judged(self):
        """Return what came out, in the order of blocks."""
        rows = await self.pool.fetch(
            """
            SELECT expectation, start_us, rows, measured, outcome FROM judged_block
             WHERE stream = $1 ORDER BY expectation, start_us
            """,
            self.time.name,
        )
        return [tuple(row) for row in rows]

    async def usable_us(self):
        return await self.pool.fetchval(
            "SELECT usable_us FROM stream_progress WHERE stream = $1", self.time.name
        )


def hour_of(number, count, carrier="AA", first=0):
    """Return so many rows of one hour."""
    return [(first + at, number * HOUR + at, carrier, 1.0) for at in range(count)]


def a_log(rng):
    """Return the rows of each partition: nearly in order, some late beyond all promises."""
    return {
        partition: [
            (
                offset,
                max(0, offset * HOUR // 12 + rng.randrange(-HOUR, HOUR // 2)),
                rng.choice(["AA", "UA", "DL", None]),
                rng.choice([None, rng.uniform(0, 100)]),
            )
            for offset in range(60)
        ]
        for partition in PARTITIONS
    }


def cut(rng, log, most):
    """Return batches in an order that processes could commit them in."""
    places = dict.fromkeys(log, 0)
    batches = []
    while left := [each for each, at in places.items() if at < len(log[each])]:
        partition = rng.choice(left)
        size = rng.randint(1, most)
        at = places[partition]
        batches.append((partition, log[partition][at : at + size]))
        places[partition] += size
    return batches


async def test_however_a_log_is_cut_and_shared_out_its_blocks_come_out_the_same(pool):
    log = a_log(random.Random(7))
    found = []
    for seed, most in ((1, 60), (2, 3), (3, 17)):
        sink = Sink(pool, *EVERY, lateness_us=HOUR // 2)
        for partition, rows in cut(random.Random(seed), log, most):
            await sink.take(rows, partition)
        await sink.mark(9 * HOUR)
        found.append(await sink.judged())
    assert len(found[0]) > 40
    assert {outcome for *_, outcome in found[0]} == {"passed", "failed", "skipped"}
    assert found[1] == found[0]
    assert found[2] == found[0]


async def test_rows_are_usable_up_to_the_first_block_that_fails(pool):
    sink = Sink(pool, KNOWN)
    await sink.take(hour_of(0, 4))
    assert await sink.usable_us() is None
    await sink.mark(HOUR)
    assert await sink.usable_us() == HOUR
    await sink.take(hour_of(1, 4, None, first=4))
    await sink.mark(2 * HOUR)
    await sink.take(hour_of(2, 4, first=8))
    await sink.mark(3 * HOUR + 5)
    assert await sink.usable_us() == HOUR
    async with sink.begin() as tx:
        released = await tx.release(sink.time.name, None, actor="a", reason="b", limit=9)
        await advance(
            tx,
            [Step(sink.time, sink.expected, {})],
            partitions=PARTITIONS,
            lake_uri="s3://gyral/lake",
        )
    assert len(released) == 1
    assert await sink.usable_us() == 3 * HOUR


async def test_a_released_block_is_what_the_next_ones_are_compared_with(pool):
    shape = {"name": "mix", "kind": "distribution", "field": "carrier", "at_most": 0.2}
    sink = Sink(pool, {**shape, "min_rows": 4})
    for number, carrier in enumerate(["AA", "UA"]):
        await sink.take(hour_of(number, 4, carrier, first=4 * number))
    await sink.mark(2 * HOUR)
    async with sink.begin() as tx:
        [held] = await tx.release(sink.time.name, None, actor="a", reason="new fleet", limit=9)
        again = await tx.release(sink.time.name, [held], actor="a", reason="again", limit=9)
    assert again == []
    await sink.take(hour_of(2, 4, "UA", first=8))
    await sink.mark(3 * HOUR)
    assert [outcome for *_, outcome in await sink.judged()] == ["passed", "failed", "passed"]


async def test_a_judged_block_is_never_rewritten(pool):
    sink = Sink(pool, KNOWN)
    await sink.take(hour_of(0, 4, None))
    await sink.mark(HOUR)
    for change in (
        "UPDATE judged_block SET outcome = 'passed' WHERE stream = $1",
        "DELETE FROM judged_block WHERE stream = $1",
    ):
        with pytest.raises(asyncpg.RaiseError, match="never rewritten"):
            await pool.execute(change, sink.time.name)


async def test_a_new_expectation_begins_at_the_first_block_nobody_missed(pool):
    sink = Sink(pool)
    await sink.take(hour_of(0, 4))
    await sink.take(hour_of(3, 2, first=4), partition=1)
    sink.declare(KNOWN, generation=2)
    await sink.take(hour_of(3, 2, first=6), partition=1)
    await sink.mark(4 * HOUR)
    assert await sink.judged() == []
    assert await sink.usable_us() == 4 * HOUR
    await sink.take(hour_of(4, 3, first=8), partition=1)
    await sink.mark(5 * HOUR)
    assert [row[1:3] for row in await sink.judged()] == [(4 * HOUR, 3)]


async def test_who_counts_by_an_older_declaration_is_told_to_read_the_newer(pool):
    sink = Sink(pool, KNOWN)
    stale = sink.expected
    await sink.take(hour_of(0, 4))
    sink.declare(KNOWN, ROWS, generation=2)
    await sink.take(hour_of(1, 4, first=4))
    with pytest.raises(StaleDeclarationError, match="generation 2; found 1"):
        await sink.take(hour_of(1, 4), partition=1, expected=stale)


async def test_what_is_no_longer_declared_is_not_judged_but_holds_until_it_is_released(pool):
    sink = Sink(pool, KNOWN)
    await sink.take(hour_of(0, 4, None))
    await sink.mark(HOUR)
    sink.declare(generation=2)
    await sink.take(hour_of(1, 4, None, first=4))
    await sink.mark(2 * HOUR)
    assert len(await sink.judged()) == 1
    assert await sink.usable_us() == 0


async def test_counts_go_when_their_block_is_judged(pool):
    sink = Sink(pool, *EVERY)
    await sink.take([*hour_of(0, 5), *hour_of(1, 5, first=5)])
    await sink.mark(HOUR)
    left = await pool.fetch(
        "SELECT DISTINCT block_us FROM block_count WHERE stream = $1", sink.time.name
    )
    assert [row["block_us"] for row in left] == [HOUR]
