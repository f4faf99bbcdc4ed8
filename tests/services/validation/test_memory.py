"""Memory and Postgres say the same, whatever was merged, dropped or done by another process."""

from importlib import resources

import numpy as np
import pytest

from gyral.kit.batches import Slice
from gyral.kit.tx import begin
from gyral.testkit.backends import migrated_pool
from gyral.validation.domain.segments import Identities
from gyral.validation.store.memory import Memory
from gyral.validation.store.sinks import SinkTx
from tests.services.validation.conftest import RECORDS, record

pytestmark = pytest.mark.live
HOUR_US = 3_600_000_000


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

    def __init__(self, pool):
        self.memory = Memory(pool)
        self.begin = begin(pool, SinkTx, service="validation")

    def slices(self, first, upcoming):
        return (Slice(RECORDS, 0, (record(b"", upcoming - 1),), first),)

    async def accept(self, first, upcoming, accepted, *, commit=True):
        slices = self.slices(first, upcoming)
        self.memory.follow(slices)
        learned = [await self.memory.learn("s", 0, accepted)]
        if commit:
            async with self.begin() as tx:
                ids = [await tx.remember(one) for one in learned]
            self.memory.settle(slices, learned, ids)

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
    await process.memory.forget("s", HOUR_US, hours=24)
    assert await process.knows(9, 1, 5) == [1, 5]
    await process.memory.forget("s", HOUR_US, hours=0)
    assert await process.knows(9, 1, 5) == [5]
    assert await Process(pool).knows(9, 1, 5) == [5]
