"""The lake over either S3 server: appends are fenced, races have one winner, versions stay."""

import asyncio
from contextlib import suppress
from importlib import resources

import pyarrow as pa
import pytest
from deltalake import DeltaTable

from gyral.kit.blobs import table_options
from gyral.testkit.backends import migrated_pool
from gyral.validation.engine.lake import Lake, LakeMovedError
from gyral.validation.engine.reading import Span
from gyral.validation.store.locks import Locks

WRITERS = 6
EVERY = 3
"""Appends after which files are merged."""


def rows(*offsets, partition=0, **columns):
    columns = {name: pa.array(values) for name, values in columns.items()}
    return pa.table(
        {
            "n": pa.array(offsets, pa.int64()),
            **columns,
            "_topic": pa.array(["t"] * len(offsets), pa.string()),
            "_partition": pa.array([partition] * len(offsets), pa.int32()),
            "_offset": pa.array(offsets, pa.int64()),
        }
    )


@pytest.fixture
async def pool(postgres_dsn):
    """Validation's own tables."""
    migrations = resources.files("gyral.validation") / "migrations"
    async with migrated_pool(postgres_dsn, service="validation", migrations=migrations) as made:
        yield made


class LakeSuite:
    """What the sink relies on of Delta tables in an object store."""

    @pytest.fixture
    def options(self, object_store):
        return dict(table_options(object_store))

    @pytest.fixture
    def new_lake(self, options, blobs, pool):
        root = f"s3://{blobs.bucket}/lake"
        return lambda: Lake(root, options, alone=Locks(pool).alone, compact_every=EVERY)

    @pytest.fixture
    def read(self, options, blobs):
        """Read a version of a table as anybody would: every row's number, in order."""

        def numbers(version=None):
            uri = f"s3://{blobs.bucket}/lake/s"
            table = DeltaTable(uri, version=version, storage_options=options)
            return sorted(table.to_pyarrow_table()["n"].to_pylist())

        return numbers

    async def test_a_zombie_cannot_append_what_its_successor_did(self, new_lake, read):
        zombie, owner = new_lake(), new_lake()
        await zombie.append("s", rows(0), [Span("t", 0, 0, 0)])
        assert (await owner.survey("s", [Span("t", 0, 0, 9)])).landed == {(0, 0, 0)}
        await owner.append("s", rows(1, 2), [Span("t", 0, 1, 2)])
        with pytest.raises(LakeMovedError):
            await zombie.append("s", rows(1, 2), [Span("t", 0, 1, 2)])
        survey = await zombie.survey("s", [Span("t", 0, 1, 2)])
        assert survey.landed == {(0, 1, 0), (0, 2, 0)}
        assert read() == [0, 1, 2]

    async def test_a_zombie_that_saw_no_table_cannot_append_either(self, new_lake, read):
        zombie, owner = new_lake(), new_lake()
        span = [Span("t", 0, 0, 1)]
        assert (await zombie.survey("s", span)).landed == frozenset()
        await owner.append("s", rows(0, 1), span)
        with pytest.raises(LakeMovedError, match="expected nothing from 0 on; t/0 reached 1"):
            await zombie.append("s", rows(0, 1), span)
        assert (await zombie.survey("s", span)).landed == {(0, 0, 0), (0, 1, 0)}
        assert read() == [0, 1]

    async def test_who_takes_partitions_back_sees_what_another_left(self, new_lake):
        """Its own appends elsewhere moved its handle past what the other wrote meanwhile."""
        back, other = new_lake(), new_lake()
        await back.append("s", rows(0), [Span("t", 0, 0, 0)])
        await other.append("s", rows(1), [Span("t", 0, 1, 1)])
        await back.append("s", rows(5, partition=1), [Span("t", 1, 5, 5)])
        assert (await back.survey("s", [Span("t", 0, 1, 2)])).landed == {(0, 1, 0)}

    @pytest.mark.parametrize("there", [False, True], ids=["no table yet", "a table"])
    async def test_of_all_that_race_with_the_same_offsets_one_wins(self, there, new_lake, read):
        if there:
            await new_lake().append("s", rows(7, partition=1), [Span("t", 1, 7, 7)])
        racers = [new_lake() for _ in range(WRITERS)]
        span = [Span("t", 0, 0, 2)]
        await asyncio.gather(*(racer.survey("s", span) for racer in racers))
        ends = await asyncio.gather(
            *(racer.append("s", rows(0, 1, 2), span) for racer in racers),
            return_exceptions=True,
        )
        lost = [end for end in ends if isinstance(end, LakeMovedError)]
        assert len(lost) == WRITERS - 1, ends
        assert read() == ([0, 1, 2, 7] if there else [0, 1, 2])

    async def test_all_that_race_with_their_own_partitions_win(self, new_lake, read):
        racers = [new_lake() for _ in range(WRITERS)]
        await racers[0].append("s", rows(0), [Span("t", 0, 0, 0)])
        await asyncio.gather(
            *(
                racer.append("s", rows(at, partition=at), [Span("t", at, at, at)])
                for at, racer in enumerate(racers)
                if at
            )
        )
        assert read() == list(range(WRITERS))

    async def test_compaction_and_others_do_not_disturb(self, new_lake, read):
        one, two = new_lake(), new_lake()
        for offset in range(2 * EVERY + 1):
            await one.append("s", rows(offset), [Span("t", 0, offset, offset)])
            await two.append("s", rows(offset, partition=1), [Span("t", 1, offset, offset)])
        await one.drain()
        await two.drain()
        landed = (await new_lake().survey("s", [Span("t", 0, 0, 9)])).landed
        assert landed == {(0, offset, 0) for offset in range(2 * EVERY + 1)}
        assert read() == sorted([*range(2 * EVERY + 1)] * 2)

    async def test_only_one_compacts_a_table_at_a_time(self, pool):
        locks = Locks(pool)
        async with locks.alone("a") as first, locks.alone("a") as second, locks.alone("b") as b:
            assert (first, second, b) == (True, False, True)
        async with locks.alone("a") as again:
            assert again

    async def test_a_holder_that_lost_its_connection_keeps_its_lease(self, pool):
        """Its work may go on in a thread, and nobody else may begin until it cannot."""
        held = Locks(pool).alone("a")
        assert await held.__aenter__()
        await pool.execute(
            """
            SELECT pg_terminate_backend(pid) FROM pg_locks
             WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
            """
        )
        with suppress(Exception):
            await held.__aexit__(None, None, None)
        async with Locks(pool).alone("a") as other:
            assert not other
        await pool.execute("UPDATE lease SET until = now() - interval '1 second'")
        async with Locks(pool).alone("a") as later:
            assert later

    async def test_a_version_stays_as_it_was(self, new_lake, read):
        lake = new_lake()
        versions = {}
        for offset in range(2 * EVERY):
            version = await lake.append("s", rows(offset), [Span("t", 0, offset, offset)])
            versions[version] = [*range(offset + 1)]
        await lake.drain()
        wider = rows(99, note=["new"])
        latest = await lake.append("s", wider, [Span("t", 0, 99, 99)])
        assert latest == await lake.version("s")
        for version, expected in versions.items():
            assert read(version) == expected
        assert read(latest) == [*range(2 * EVERY), 99]

    async def test_a_column_that_changed_its_type_is_told(self, new_lake):
        lake = new_lake()
        await lake.append("s", rows(0), [Span("t", 0, 0, 0)])
        wanted = pa.schema([("n", pa.string())])
        assert (await lake.survey("s", [], wanted)).misfit == (
            "n: expected int64 as in the table; found string"
        )

    async def test_a_table_that_nobody_made_has_no_version(self, new_lake):
        assert await new_lake().version("s") is None


@pytest.mark.live
class TestS3Proxy(LakeSuite):
    pass


@pytest.mark.long
@pytest.mark.minio
@pytest.mark.timeout(1800)
class TestMinio(LakeSuite):
    pass
