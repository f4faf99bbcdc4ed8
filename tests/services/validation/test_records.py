"""Where records end when a process stood still, or when judging one of them fails."""

import asyncio
from dataclasses import replace
from importlib import resources

import orjson
import pytest
from deltalake import DeltaTable

from gyral.contracts.batches import BatchForm, BatchSubmitted
from gyral.contracts.data import StreamDeclared
from gyral.contracts.versions import ModelDeclared
from gyral.kit.batches import Batch, Slice
from gyral.kit.changes import Changes
from gyral.kit.flushing import Flusher
from gyral.kit.offsets import Fenced
from gyral.kit.partitioning import partitions_of
from gyral.kit.tx import begin
from gyral.testkit.backends import migrated_pool
from gyral.testkit.projections import MemoryProjection
from gyral.testkit.waiting import until
from gyral.validation.engine.lake import Lake, LakeMovedError
from gyral.validation.engine.ledger import Ledger
from gyral.validation.engine.measures import Outcomes
from gyral.validation.engine.outlet import Outlet
from gyral.validation.engine.parking import Parking
from gyral.validation.engine.schemas import Schemas
from gyral.validation.handlers.forwarding import Forwarding
from gyral.validation.handlers.metrics import metrics
from gyral.validation.handlers.records import Records
from gyral.validation.store.locks import Locks
from gyral.validation.store.lookups import Lookups
from gyral.validation.store.memory import Memory
from gyral.validation.store.sinks import SinkTx
from tests.services.validation.conftest import RECORDS, declared, record, row
from tests.services.validation.people import KEYS

pytestmark = pytest.mark.live
STREAM = "departures"
NOW_US = 1_800_000_000_000_000
HOME = int(partitions_of([b"f1"], 3)[0])
SIBLING = next(
    key
    for key in (f"f{number}" for number in range(2, 100))
    if partitions_of([key.encode()], 3)[0] == HOME
)
"""Another key of the same partition."""


@pytest.fixture
async def pool(postgres_dsn):
    migrations = resources.files("gyral.validation") / "migrations"
    async with migrated_pool(postgres_dsn, service="validation", migrations=migrations) as made:
        yield made


@pytest.fixture
async def outlet(kafka_brokers):
    opened = Outlet(kafka_brokers)
    await opened.start()
    yield opened
    await opened.stop()


@pytest.fixture
def process(pool, postgres_dsn, outlet, tmp_path):
    """Make a process's sink that goes by a declaration of its own."""

    async def make(generation, *carriers):
        streams = MemoryProjection(StreamDeclared)
        said = declared(STREAM, generation).model_dump(mode="json")
        said["spec"]["spec"]["fields"]["carrier"]["allowed"] = list(carriers)
        await streams.put(StreamDeclared.model_validate(said))
        models = MemoryProjection(ModelDeclared)
        lookups = Lookups(pool)
        lake = Lake(str(tmp_path), {}, alone=Locks(postgres_dsn).alone)
        schemas = Schemas(streams, KEYS)
        return Records(
            schemas=schemas,
            parking=Parking(schemas, KEYS),
            memory=Memory(pool, hours=24, now_us=lambda: NOW_US),
            lake=lake,
            ledger=Ledger(lake, lookups.standing),
            outlet=outlet,
            forwarding=Forwarding(models, lookups, outlet, lambda _: None),
            changes=Changes(),
            outcomes=Outcomes(),
            metrics=metrics(),
            now_us=lambda: NOW_US,
            future_us=0,
            crash=lambda _: None,
        )

    return make


def a_batch(pool, offset, *, after=None, carrier="AA", key="f1"):
    value = {
        "stream": STREAM,
        "schema_version": 1,
        "record_key": key,
        "values": row(key, carrier=carrier),
    }
    there = record(orjson.dumps(value), offset, HOME)
    there.topic = RECORDS
    part = Slice(RECORDS, HOME, (there,), after)
    return Batch((part,), "validation.records", begin(pool, SinkTx, service="validation"))


async def places(pool, tmp_path):
    """Return the offsets of rows in the lake, and of those in quarantine."""
    table = DeltaTable(str(tmp_path / STREAM)).to_pyarrow_table()
    kept = await pool.fetch('SELECT "offset" FROM quarantine ORDER BY "offset"')
    return sorted(table["_offset"].to_pylist()), [one["offset"] for one in kept]


async def frozen(pool, sink, batch):
    """Stop a process after it looked at the lake, before it judges; return what wakes it."""
    conn = await pool.acquire()
    lock = conn.transaction()
    await lock.start()
    await conn.execute("LOCK TABLE identity_segment IN ACCESS EXCLUSIVE MODE")
    work = asyncio.create_task(sink.batch(batch))

    async def waits():
        return await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted") > 0

    await until(waits)

    async def wake():
        await lock.rollback()
        await pool.release(conn)
        return await asyncio.gather(work, return_exceptions=True)

    return wake


@pytest.mark.parametrize("there", [False, True], ids=["no table yet", "a table"])
async def test_what_its_successor_refused_stays_out_of_the_lake(pool, process, tmp_path, there):
    """They went by declarations of which one allows the row."""
    zombie, owner = await process(1, "AA", "UA"), await process(2, "UA")
    after, first = None, []
    if there:
        await owner.batch(a_batch(pool, 3, carrier="UA", key=SIBLING))
        after, first = 4, [3]
    wake = await frozen(pool, zombie, a_batch(pool, 7, after=after))
    await owner.batch(a_batch(pool, 7, after=after))
    assert await places(pool, tmp_path) == (first, [7])
    [end] = await wake()
    assert isinstance(end, Fenced)
    assert await places(pool, tmp_path) == (first, [7])


async def test_what_it_was_faster_to_append_counts_for_its_successor(pool, process, tmp_path):
    zombie, owner = await process(1, "AA", "UA"), await process(2, "UA", "DL")
    died = Batch(a_batch(pool, 7).slices, "validation.records", pool_that_breaks)
    with pytest.raises(ConnectionError):
        await zombie.batch(died)
    assert await places(pool, tmp_path) == ([7], [])
    await owner.batch(a_batch(pool, 7, carrier="AA"))
    assert await places(pool, tmp_path) == ([7], [])


def pool_that_breaks():
    raise ConnectionError("Postgres is away")


async def test_what_another_left_out_is_put_aside_with_its_reason(pool, process, tmp_path):
    """It settled the lake and died before it wrote down what it had refused."""
    strict, lenient = await process(1, "UA"), await process(2, "AA", "UA")
    with pytest.raises(ConnectionError):
        await strict.batch(
            Batch(a_batch(pool, 7).slices, "validation.records", pool_that_breaks)
        )
    await lenient.batch(a_batch(pool, 7))
    assert await places(pool, tmp_path) == ([], [7])
    assert await pool.fetchval("SELECT reason FROM quarantine") == "overtaken"
    await lenient.batch(a_batch(pool, 8, after=8))
    assert await places(pool, tmp_path) == ([8], [7])


class Poisoned(Records):
    """A sink with a bug: it fails at carrier BB, in whatever batch."""

    async def _judge(self, part, refused, latest_us):
        if "BB" in [row.carrier for row in part.whole.rows]:
            raise ZeroDivisionError("carrier BB")
        return await super()._judge(part, refused, latest_us)


async def test_a_record_that_meets_a_bug_is_parked_and_its_neighbours_are_kept(
    pool, process, tmp_path
):
    sound = await process(1, "AA", "BB")
    sink = Poisoned(**{name: getattr(sound, name) for name in Records.__slots__})
    sinking = begin(pool, SinkTx, service="validation")
    flusher = Flusher(
        "validation.records", sinking, sink.batch, park=sink.park, retries=1, patience_s=1.0
    )
    keys = [
        key
        for key in map("f{}".format, range(99))
        if partitions_of([key.encode()], 3)[0] == HOME
    ]
    records = [
        one
        for offset in range(9)
        for part in a_batch(
            pool, offset, carrier="BB" if offset in (2, 5) else "AA", key=keys[offset]
        ).slices
        for one in part.records
    ]
    await flusher.flush((Slice(RECORDS, HOME, tuple(records), None),))
    assert await places(pool, tmp_path) == ([0, 1, 3, 4, 6, 7, 8], [2, 5])
    kept = await pool.fetch("SELECT stream, record_key, reason, detail, value FROM quarantine")
    assert {one["record_key"] for one in kept} == {keys[2], keys[5]}
    for one in kept:
        assert (one["stream"], one["reason"]) == (STREAM, "bug")
        assert one["detail"].endswith("it fails with ZeroDivisionError")
        assert orjson.loads(one["value"])["values"]["carrier"] == "BB"
    come = await pool.fetchrow("SELECT rows, quarantined FROM stream_progress")
    assert tuple(come) == (7, 2)


async def test_a_record_whose_rows_are_in_the_lake_is_not_parked(pool, process, tmp_path):
    sink = await process(1, "AA")
    died = Batch(a_batch(pool, 7).slices, "validation.records", pool_that_breaks)
    with pytest.raises(ConnectionError):
        await sink.batch(died)
    with pytest.raises(ZeroDivisionError):
        await sink.park(a_batch(pool, 7), ZeroDivisionError())
    assert await places(pool, tmp_path) == ([7], [])


def a_batch_record(offset, *keys):
    """One record of many rows, the first of which is not accepted."""
    rows = [row("none", carrier="ZZ"), *(row(key, carrier="AA") for key in keys)]
    body = b"\n".join(map(orjson.dumps, rows))
    told = BatchSubmitted(stream=STREAM, schemaversion=1, rows=len(rows), form=BatchForm.NDJSON)
    headers = {"ce_type": told.type, **told.attributes}
    encoded = tuple((name, text.encode()) for name, text in headers.items())
    return replace(record(body, offset, HOME), topic=RECORDS, headers=encoded)


async def test_a_record_of_many_rows_is_not_parked_once_any_row_is_in_the_lake(
    pool, process, tmp_path
):
    sink = await process(1, "AA")
    slices = (Slice(RECORDS, HOME, (a_batch_record(7, "f1", SIBLING),), None),)
    with pytest.raises(ConnectionError):
        await sink.batch(Batch(slices, "validation.records", pool_that_breaks))
    assert await places(pool, tmp_path) == ([7, 7], [])
    sinking = begin(pool, SinkTx, service="validation")
    with pytest.raises(ZeroDivisionError):
        await sink.park(Batch(slices, "validation.records", sinking), ZeroDivisionError())
    assert await places(pool, tmp_path) == ([7, 7], [])


async def test_a_record_that_is_parked_is_kept_out_of_the_lake_for_good(
    pool, process, tmp_path
):
    owner, zombie = await process(1, "AA"), await process(1, "AA")
    await owner.batch(a_batch(pool, 3, key=SIBLING))
    await owner.park(a_batch(pool, 7, after=4), ZeroDivisionError())
    late = Batch(a_batch(pool, 7, after=4).slices, "validation.records", pool_that_breaks)
    with pytest.raises(ConnectionError):
        await zombie.batch(late)
    assert await places(pool, tmp_path) == ([3], [7])


async def test_what_others_did_is_no_fault_of_a_record(pool, process):
    sink = await process(1, "AA")
    with pytest.raises(LakeMovedError):
        await sink.park(a_batch(pool, 7), LakeMovedError("another was faster"))
    assert await pool.fetchval("SELECT count(*) FROM quarantine") == 0


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"\xff\xfe", ""),
        (b'{"stream": "departures"', ""),
        (b'{"stream": "departures", "record_key": "k", "values": 7}', STREAM),
    ],
)
async def test_whatever_cannot_even_be_read_is_kept_whole(pool, process, value, named):
    sink = await process(1, "AA")
    there = record(value, 7, HOME)
    there.topic = RECORDS
    slices = (Slice(RECORDS, HOME, (there,), None),)
    sinking = begin(pool, SinkTx, service="validation")
    await sink.park(Batch(slices, "validation.records", sinking), ZeroDivisionError())
    [kept] = await pool.fetch("SELECT stream, reason, value FROM quarantine")
    assert tuple(kept) == (named, "bug", value)
