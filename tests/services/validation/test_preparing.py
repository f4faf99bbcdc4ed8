"""A batch taken apart ahead of its turn: the same as at its turn, or it is done again."""

import asyncio
from dataclasses import replace

import numpy as np
import orjson
import pytest
from pydantic import SecretStr

from gyral.contracts.batches import BatchForm, BatchSubmitted
from gyral.contracts.data import StreamDeclared
from gyral.kit.batches import Slice
from gyral.kit.personal import PersonalKeys
from gyral.testkit.backends import PERSONAL_SECRET
from gyral.testkit.projections import MemoryProjection
from gyral.validation.engine.groups import Group
from gyral.validation.engine.preparing import Part, current, prepare
from gyral.validation.engine.schemas import Schemas
from tests.services.validation.conftest import declared, record, row

PARTITIONS = 3
KEYS = PersonalKeys(SecretStr(PERSONAL_SECRET))
WIDER = {
    "flight_id": {"type": "string"},
    "at": {"type": "timestamp"},
    "carrier": {"type": "string", "allowed": ["AA", "UA", "DL"], "nullable": True},
}


@pytest.fixture
async def streams():
    made = MemoryProjection(StreamDeclared)
    await made.put(declared("departures"))
    return made


def value(values, stream="departures", **more):
    envelope = {"stream": stream, "record_key": values["flight_id"], "values": values, **more}
    return orjson.dumps(envelope)


def slices_of(values):
    records = tuple(record(one, offset) for offset, one in enumerate(values))
    return (Slice("t", 0, records, None),)


async def test_nothing_is_done_twice_while_nothing_changes(streams):
    slices, schemas = slices_of([value(row("f1"))]), Schemas(streams, KEYS)
    ahead = await prepare(slices, schemas, PARTITIONS)
    assert await current(ahead, slices, schemas, PARTITIONS) is ahead


@pytest.mark.parametrize(
    ("values", "version"),
    [(row("f1", carrier="DL"), 1), (row("f1", carrier="DL"), 2), (row("f1"), 1)],
    ids=["refused before", "not known before", "good before"],
)
async def test_a_declaration_between_preparing_and_settling_is_honoured(
    streams, values, version
):
    slices, schemas = slices_of([value(values, schema_version=version)]), Schemas(streams, KEYS)
    ahead = await prepare(slices, schemas, PARTITIONS)
    await streams.put(declared("departures", 2, fields=WIDER))
    found = await current(ahead, slices, schemas, PARTITIONS)
    assert found.found.refused == []
    assert found.streams["departures"].whole.schema.generation == 2
    assert "delay" not in found.streams["departures"].columns.table.column_names


async def test_a_stream_that_is_declared_only_then_is_known(streams):
    slices, schemas = slices_of([value(row("f1"), "arrivals")]), Schemas(streams, KEYS)
    ahead = await prepare(slices, schemas, PARTITIONS)
    assert ahead.found.stale
    await streams.put(declared("arrivals"))
    found = await current(ahead, slices, schemas, PARTITIONS)
    assert list(found.streams) == ["arrivals"]


async def test_keys_get_other_homes_when_the_topic_has_more_partitions(streams):
    slices = slices_of([value(row(f"f{number}")) for number in range(50)])
    schemas = Schemas(streams, KEYS)
    ahead = await prepare(slices, schemas, PARTITIONS)
    found = await current(ahead, slices, schemas, 7)
    assert found.streams["departures"].columns.homes.max() == 6


async def test_many_pieces_are_the_same_as_one(streams):
    """Good rows of two streams, one that is none, one of another key, one of no time in UTC."""
    values = [
        value(row(f"f{number}", delay=number % 7), ("departures", "arrivals")[number % 9 == 8])
        for number in range(5000)
    ]
    values[17] = b"{"
    values[4000] = value(row("other")).replace(b"other", b"f4000", 1)
    values[2500] = value(row("f2500", at="0001-01-01T00:00:00+14:00"))
    await streams.put(declared("arrivals"))
    slices, schemas = slices_of(values), Schemas(streams, KEYS)
    found = await prepare(slices, schemas, PARTITIONS)
    assert [refused.place.offset for refused in found.found.refused] == [17]
    untimely = found.streams["departures"].untimely
    assert [refused.place.offset for refused in untimely] == [2500]
    for part in found.streams.values():
        whole = Group(
            part.whole.schema, part.whole.records, part.whole.envelopes, part.whole.row
        )
        once = Part.of(whole, PARTITIONS)
        assert whole.spans() == part.whole.spans()
        assert once.timely.keys == part.timely.keys
        assert once.timely.rows == part.timely.rows
        for name in ("partitions", "offsets", "indices", "versions"):
            assert np.array_equal(getattr(once.timely, name), getattr(part.timely, name))
        for name in ("keys", "contents", "times_us", "homes", "misnamed"):
            assert np.array_equal(getattr(once.columns, name), getattr(part.columns, name))
        assert once.columns.table.equals(part.columns.table)
    misnamed = np.flatnonzero(found.streams["departures"].columns.misnamed)
    assert found.streams["departures"].timely.offsets[misnamed].tolist() == [4000]


async def test_records_of_many_rows_are_taken_apart_in_pieces_too(streams):
    """In one piece they would keep the event loop from everything else."""
    rows = [row(f"f{number}", delay=number % 7) for number in range(10_000)]
    text = b"\n".join(map(orjson.dumps, rows))
    assert 2 * len(text) > 1 << 20
    told = BatchSubmitted(
        stream="departures", schemaversion=1, rows=len(rows), form=BatchForm.NDJSON
    )
    headers = [("ce_type", told.type.encode())]
    headers += [(name, said.encode()) for name, said in told.attributes.items()]
    batches = tuple(replace(record(text, at), headers=tuple(headers)) for at in range(3))
    loop = asyncio.get_running_loop()
    turns: list[int] = []

    def turn():
        turns.append(len(turns))
        if len(turns) < 1000:
            loop.call_soon(turn)

    loop.call_soon(turn)
    found = await prepare((Slice("t", 0, batches, None),), Schemas(streams, KEYS), PARTITIONS)
    assert len(turns) >= len(batches)
    part = found.streams["departures"]
    assert part.timely.row == [*range(10_000)] * 3
    single = await prepare(
        slices_of([value(one) for one in rows]), Schemas(streams, KEYS), PARTITIONS
    )
    fields = single.streams["departures"].columns.table.select(["flight_id", "at", "delay"])
    assert part.columns.table.slice(10_000, 10_000).select(fields.column_names).equals(fields)


async def test_whether_a_marker_lies_in_the_future_is_asked_at_its_turn(streams):
    marker = b'{"subject":"departures","event_time":"1970-01-01T00:00:01Z"}'
    one = replace(record(marker, 0), headers=(("ce_type", b"data.watermark.advanced.v1"),))
    found = await prepare((Slice("t", 0, (one,), None),), Schemas(streams, KEYS), PARTITIONS)
    kept, refused = found.found.markers(999_999)
    assert (kept, [row.violation.reason for row in refused]) == ([], ["future"])
    kept, refused = found.found.markers(1_000_000)
    assert ([marker.event_time_us for marker in kept], refused) == ([1_000_000], [])
