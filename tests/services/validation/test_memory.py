"""Memory and Postgres say the same, whatever was merged, dropped or done by another process."""

import random
from importlib import resources

import numpy as np
import pytest

from gyral.kit.batches import Slice
from gyral.kit.tx import begin
from gyral.testkit.backends import migrated_pool
from gyral.validation.domain.segments import SLABS, Identities
from gyral.validation.store.memory import Memory
from gyral.validation.store.sinks import SinkTx
from tests.services.validation.conftest import RECORDS, record

pytestmark = pytest.mark.live
HOUR_US = 3_600_000_000
NOW_US = 1_800_000_000_000_000


@pytest.fixture
async def pool(postgres_dsn):
    migrations = resources.files("gyral.validation") / "migrations"
    async with migrated_pool(
        postgres_dsn, service="validation", migrations=migrations
    ) as opened:
        yield opened


def rows(*numbers, time_us=0):
    keys = np.array([(number, number) for number in numbers], dtype=np.uint64)
    return Identities(
        keys,
        keys + np.uint64(1),
        np.full(len(numbers), time_us, dtype=np.int64),
        np.zeros(len(numbers), dtype=np.int32),
    )


class Process:
    """One validation process, as far as its memory goes."""

    def __init__(self, pool, *, hours=24, clock=None):
        self.memory = Memory(pool, hours=hours, now_us=clock or (lambda: NOW_US))
        self.begin = begin(pool, SinkTx, service="validation")

    def slices(self, first, upcoming):
        return (Slice(RECORDS, 0, (record(b"", upcoming - 1),), first),)

    async def accept(self, first, upcoming, accepted, *, commit=True):
        slices = self.slices(first, upcoming)
        self.memory.follow(slices)
        learned = await self.memory.learn("s", 0, accepted, HOUR_US)
        if commit:
            async with self.begin() as tx:
                ids = [await tx.remember(one) for one in learned]
            self.memory.settle(slices, learned, ids)

    async def finds(self, at, *numbers):
        self.memory.follow(self.slices(at, at))
        found = await self.memory.find("s", 0, rows(*numbers).keys)
        return {numbers[place]: identity for place, identity in found.items()}

    async def knows(self, first, *numbers):
        self.memory.follow(self.slices(first, first))
        found = await self.memory.find("s", 0, rows(*numbers).keys)
        return [numbers[at] for at in sorted(found)]


async def test_what_one_process_learned_another_finds_when_it_takes_over(pool):
    one, other = Process(pool), Process(pool)
    await one.accept(None, 5, rows(1, 2))
    await one.accept(5, 9, rows(3))
    assert await one.knows(9, 1, 2, 3, 4) == [1, 2, 3]
    assert await other.knows(9, 1, 2, 3, 4) == [1, 2, 3]
    await other.accept(9, 12, rows(4))
    assert await one.knows(12, 4) == [4]


async def test_what_was_not_committed_is_not_remembered(pool):
    process = Process(pool)
    await process.accept(None, 5, rows(1))
    await process.accept(5, 9, rows(2), commit=False)
    assert await process.knows(5, 1, 2) == [1]
    assert await Process(pool).knows(5, 1, 2) == [1]


async def test_many_small_batches_make_few_segments(pool):
    process = Process(pool)
    for number in range(100):
        await process.accept(number or None, number + 1, rows(number))
    assert await pool.fetchval("SELECT count(*) FROM identity_segment") <= 8
    assert await pool.fetchval("SELECT sum(rows) FROM identity_segment") == 100
    assert await Process(pool).knows(100, *range(101)) == list(range(100))


async def test_old_rows_are_forgotten_and_young_ones_are_not(pool):
    process = Process(pool)
    await process.accept(None, 5, rows(1, 2, 3, 4, time_us=0))
    await process.accept(5, 9, rows(5, time_us=9 * HOUR_US))
    await pool.execute(
        "INSERT INTO stream_progress (stream, watermark_us) VALUES ('s', $1)", 9 * HOUR_US
    )
    await process.memory.forget("s", HOUR_US)
    assert await process.knows(9, 1, 5) == [1, 5]
    later = Process(pool, clock=lambda: NOW_US + 25 * HOUR_US)
    assert await later.knows(9, 1, 5) == [1, 5]
    await later.memory.forget("s", HOUR_US)
    assert await later.knows(9, 1, 5) == [5]
    assert await Process(pool).knows(9, 1, 5) == [5]


class Years:
    """A process that goes on for long, and which rows it must know and may know."""

    def __init__(self, pool, chance):
        self.pool, self.chance = pool, chance
        self.now_us = NOW_US
        self.watermark_us = 0
        self.offset = 0
        self.accepted = {}
        self.process = self.another()

    def another(self):
        return Process(self.pool, hours=2, clock=lambda: self.now_us)

    async def step(self):
        """Let time pass and rows come: of now, late, and again under a key taken before."""
        self.now_us += self.chance.randrange(HOUR_US // 4)
        self.watermark_us = max(self.watermark_us, self.now_us - HOUR_US // 2)
        times = [
            self.now_us - self.chance.randrange(3 * HOUR_US) * self.chance.randrange(2)
            for _ in range(self.chance.randrange(1, 20))
        ]
        taken = {}
        for number, time_us in enumerate(times, start=1000 * (self.offset + 1)):
            again = self.chance.random() < 0.05 and self.accepted
            key = self.chance.choice(list(self.accepted)) if again else number
            taken[key] = time_us
        await self._accept(taken)
        if self.chance.random() < 0.3:
            await self.pool.execute(
                """
                INSERT INTO stream_progress (stream, watermark_us) VALUES ('s', $1)
                    ON CONFLICT (stream) DO UPDATE SET watermark_us = excluded.watermark_us
                """,
                self.watermark_us,
            )
            await self.process.memory.forget("s", HOUR_US)
            await self.look()
        if self.chance.random() < 0.1:
            self.process = self.another()

    async def _accept(self, taken):
        known = await self.process.finds(self.offset, *taken)
        batch = rows(*taken)
        batch.times_us[:] = list(taken.values())
        for at, key in enumerate(taken):
            if key in known:
                batch.revisions[at] = known[key].revision + 1
            self.accepted[key] = (taken[key], int(batch.revisions[at]), self.now_us)
        await self.process.accept(self.offset, self.offset + 1, batch)
        self.offset += 1

    async def look(self):
        """Compare what is known with what must be and may be."""
        found = await self.process.finds(self.offset, *self.accepted)
        must, may = 0, 0
        for key, (time_us, revision, seen_us) in self.accepted.items():
            if time_us >= self.watermark_us - HOUR_US or seen_us > self.now_us - 2 * HOUR_US:
                must += 1
                assert (found[key].event_time_us, found[key].revision) == (time_us, revision)
            slab_us = 2 * HOUR_US // SLABS
            if (
                time_us >= self.watermark_us - HOUR_US - slab_us
                or seen_us > self.now_us - 2 * HOUR_US - slab_us
            ):
                may += 1
        held = await self.pool.fetchrow(
            "SELECT sum(rows) AS rows, count(*) AS segments FROM identity_segment"
        )
        self.largest = max(getattr(self, "largest", 0), held["rows"])
        assert must <= len(found)
        assert held["rows"] <= 1.25 * may + 40, (held["rows"], must, may)
        assert held["segments"] <= 150


@pytest.mark.timeout(300)
async def test_memory_follows_the_window_for_as_long_as_rows_come(pool):
    years = Years(pool, random.Random(7))
    for _ in range(400):
        await years.step()
    assert len(years.accepted) > 5 * years.largest
