"""Reads the lake from the object store, the rest from Postgres and Kafka; no code of ours."""

import hashlib
from collections.abc import Iterator, Mapping

import asyncpg
import msgspec
import pyarrow as pa
import xxhash
from aiokafka import AIOKafkaConsumer, TopicPartition
from deltalake import DeltaTable

from tests.chaos.checker import Landed, Parked, Pinned
from tests.chaos.journal import Place

_OURS = frozenset({"_topic", "_partition", "_offset", "_row"})
_PINS = 12
Connection = asyncpg.Connection


def lake(uri: str, options: Mapping[str, str]) -> Iterator[Landed]:
    """Yield every row of a table as it is now; nulls are left out, times in microseconds."""
    table = DeltaTable(uri, storage_options=dict(options))
    for batch in table.to_pyarrow_dataset().to_batches():
        for row in _plain(batch).to_pylist():
            values = {
                name: value
                for name, value in row.items()
                if name not in _OURS and value is not None
            }
            yield Landed((row["_partition"], row["_offset"]), row.get("_row") or 0, values)


async def pins(
    conn: Connection, schema: str, stream: str, uri: str, options: Mapping[str, str]
) -> list[Pinned]:
    """Return some announced versions, the first and the last among them, and read each."""
    told = await conn.fetch(
        f"""
        SELECT DISTINCT ON (version) version, rows, content
          FROM {schema}.dataset
         WHERE stream = $1
         ORDER BY version
        """,  # noqa: S608 - a name of ours
        stream,
    )
    some = [told[at * (len(told) - 1) // _PINS] for at in range(_PINS + 1)] if told else []
    return [
        Pinned(
            one["version"],
            (one["rows"], one["content"]),
            _content(DeltaTable(uri, version=one["version"], storage_options=dict(options))),
        )
        for one in {each["version"]: each for each in some}.values()
    ]


def _content(table: DeltaTable) -> tuple[int, str]:
    """Count a table's rows and add up their digests, as docs/adr/0015 defines them."""
    rows = total = 0
    for batch in table.to_pyarrow_dataset().to_batches():
        for row in batch.to_pylist():
            names = sorted(name for name in row if name not in _OURS and row[name] is not None)
            packed = msgspec.msgpack.encode({name: row[name] for name in names})
            total += xxhash.xxh3_128_intdigest(packed)
            rows += 1
    return rows, f"{total % 2**128:032x}"


def _plain(batch: pa.RecordBatch) -> pa.Table:
    table = pa.Table.from_batches([batch])
    for at, field in enumerate(table.schema):
        if pa.types.is_timestamp(field.type):
            micros = table.column(at).cast(pa.timestamp("us", "UTC")).cast(pa.int64())
            table = table.set_column(at, field.name, micros)
    return table


async def quarantine(conn: Connection, schema: str, topic: str) -> list[Parked]:
    """Return what was refused; without a key of its own a record goes by Kafka's."""
    row = await _row(conn, schema, "quarantine")
    found = await conn.fetch(
        f"""
        SELECT partition, "offset", {row} AS row, record_key, reason, kafka_key, value
          FROM {schema}.quarantine
         WHERE topic = $1
        """,  # noqa: S608 - names of ours
        topic,
    )
    return [
        Parked(
            (one["partition"], one["offset"]),
            one["row"],
            one["record_key"] or (one["kafka_key"] or b"").decode(errors="replace"),
            one["reason"],
            hashlib.sha256(one["value"]).hexdigest(),
        )
        for one in found
    ]


async def places(
    conn: Connection, schema: str, table: str, topic: str
) -> list[tuple[Place, int]]:
    """Return the places that a table without content holds."""
    row = await _row(conn, schema, table)
    found = await conn.fetch(
        f'SELECT partition, "offset", {row} AS row FROM {schema}.{table} WHERE topic = $1',  # noqa: S608
        topic,
    )
    return [((one["partition"], one["offset"]), one["row"]) for one in found]


async def stored_offsets(conn: Connection, schema: str, sink: str) -> dict[int, int]:
    """Return how far a sink got, by partition."""
    found = await conn.fetch(
        f"SELECT partition, next_offset FROM {schema}.sink_offset WHERE sink = $1",  # noqa: S608
        sink,
    )
    return {one["partition"]: one["next_offset"] for one in found}


async def ends(brokers: str, topic: str) -> dict[int, int]:
    """Return the offset that each partition's next record would have."""
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=brokers)
    await consumer.start()
    try:
        known = [TopicPartition(topic, at) for at in consumer.partitions_for_topic(topic) or ()]
        found = await consumer.end_offsets(known)
    finally:
        await consumer.stop()
    return {place.partition: end for place, end in found.items()}


async def _row(conn: Connection, schema: str, table: str) -> str:
    """Return the column that counts rows within a record, where there is one."""
    known = await conn.fetchval(
        """
        SELECT count(*) FROM information_schema.columns
         WHERE table_schema = $1 AND table_name = $2 AND column_name = 'row'
        """,
        schema,
        table,
    )
    return '"row"' if known else "0"
