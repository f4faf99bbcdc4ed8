"""Where repeated rows lay, by ranges: each row once and no other, and few where all repeat."""

from importlib import resources

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.kit.tx import begin
from gyral.testkit.backends import migrated_pool
from gyral.validation.domain.accounting import Duplicate, Place, repeated
from gyral.validation.store.accounts import AccountTx
from gyral.validation.store.lookups import Lookups

TOPIC = "t"


def a_duplicate(partition, offset, row=0, stream="s"):
    return Duplicate(Place(TOPIC, partition, offset, row), stream, "k")


def places_of(spans):
    return [
        (span.partition, offset, row, span.stream)
        for span in spans
        for offset in range(span.offsets[0], span.offsets[1] + 1)
        for row in range(span.rows[0], span.rows[1] + 1)
    ]


place = st.tuples(st.integers(0, 1), st.integers(0, 6), st.integers(0, 3))


@given(st.dictionaries(place, st.sampled_from("ab")), st.randoms())
def test_every_repeated_row_is_in_one_range_and_no_other_row_is(placed, chance):
    rows = [
        a_duplicate(partition, offset, row, stream)
        for (partition, offset, row), stream in placed.items()
    ]
    chance.shuffle(rows)
    found = places_of(repeated(rows))
    assert len(found) == len(placed)
    assert {at[:3]: at[3] for at in found} == placed


def test_where_everything_repeats_there_are_few_ranges():
    alone = [a_duplicate(partition, offset) for offset in range(5000) for partition in (0, 1)]
    assert len(repeated(alone)) == 2
    together = [a_duplicate(0, offset, row) for offset in range(30) for row in range(100)]
    assert [(span.offsets, span.rows) for span in repeated(together)] == [((0, 29), (0, 99))]
    assert repeated([]) == []


@pytest.fixture
async def pool(postgres_dsn):
    """Validation's own tables."""
    migrations = resources.files("gyral.validation") / "migrations"
    async with migrated_pool(postgres_dsn, service="validation", migrations=migrations) as made:
        yield made


@pytest.mark.live
async def test_who_compares_places_finds_a_row_each_until_kafka_has_forgotten_them(pool):
    rows = [a_duplicate(1, offset, row) for offset in (4, 5, 9) for row in (0, 1)]
    async with begin(pool, AccountTx, service="validation")() as tx:
        await tx.count_duplicates(rows)
        await tx.count_duplicates([])
    found = await pool.fetch('SELECT partition, "offset", row, stream FROM duplicate')
    assert sorted(map(tuple, found)) == places_of(repeated(rows))
    assert await pool.fetchval("SELECT count(*) FROM duplicate_span") == 2
    lookups = Lookups(pool)
    await lookups.forget_duplicates(1)
    assert await pool.fetchval("SELECT count(*) FROM duplicate") == 6
    await pool.execute("UPDATE duplicate_span SET counted_at = now() - interval '2 hours'")
    await lookups.forget_duplicates(1)
    assert await pool.fetchval("SELECT count(*) FROM duplicate") == 0


@pytest.mark.live
async def test_what_was_counted_row_by_row_is_kept(pool):
    rows = [(1, 4, 0), (1, 4, 1), (1, 4, 3), (1, 5, 0), (2, 4, 1)]
    await pool.execute(
        """
        DROP VIEW duplicate;
        DROP TABLE duplicate_span;
        CREATE TABLE duplicate (
            topic text, partition integer, "offset" bigint, row integer, stream text,
            record_key text
        )
        """
    )
    await pool.executemany("INSERT INTO duplicate VALUES ('t', $1, $2, $3, 's', 'k')", rows)
    folder = resources.files("gyral.validation") / "migrations"
    await pool.execute((folder / "0008_span_duplicates.sql").read_text())
    found = await pool.fetch('SELECT partition, "offset", row FROM duplicate')
    assert sorted(map(tuple, found)) == rows
    assert await pool.fetchval("SELECT count(*) FROM duplicate_span") == 4
