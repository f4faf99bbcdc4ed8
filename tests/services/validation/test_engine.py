"""Records sorted into rows and refusals, and the fence around the lake."""

import io
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from gyral.contracts.batches import BatchForm, BatchSubmitted
from gyral.contracts.data import StreamDeclared
from gyral.kit.batches import Slice
from gyral.kit.personal import PersonalKeys
from gyral.modelling.contents import Content
from gyral.testkit.backends import PERSONAL_SECRET
from gyral.testkit.projections import MemoryProjection
from gyral.validation.domain.refusals import Reason, Violation
from gyral.validation.engine.intake import Sorting
from gyral.validation.engine.schema import (
    Schema,
    UnusableSchemaError,
    micros,
)
from gyral.validation.engine.schemas import Schemas
from tests.services.validation.conftest import declared, record

FIELDS = {
    "flight_id": {"type": "string", "max_length": 8},
    "at": {"type": "timestamp"},
    "carrier": {"type": "string", "allowed": ["AA", "UA"], "nullable": True},
    "tail": {"type": "string", "pattern": "^N[0-9]+$", "nullable": True},
    "delay": {"type": "number", "minimum": -100, "maximum": 2000, "nullable": True},
    "seats": {"type": "integer", "minimum": 0.5, "nullable": True},
    "late": {"type": "boolean", "nullable": True},
}
GOOD = {"flight_id": "f1", "at": "2026-01-01T00:00:00Z"}
SCHEMA = Schema(declared("departures", fields=FIELDS))


def raw(values):
    return values if isinstance(values, bytes) else json.dumps(values).encode()


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"at": GOOD["at"]}, Reason.REQUIRED),
        ({**GOOD, "flight_id": None}, Reason.REQUIRED),
        ({**GOOD, "flight_id": 7}, Reason.TYPE),
        ({**GOOD, "flight_id": "123456789"}, Reason.MAX_LENGTH),
        ({**GOOD, "flight_id": "a\0b"}, Reason.FORBIDDEN_CHARACTER),
        ({**GOOD, "at": "2026-01-01T00:00:00"}, Reason.TIMESTAMP),
        ({**GOOD, "at": "2026-02-30T00:00:00Z"}, Reason.TIMESTAMP),
        ({**GOOD, "at": 1767225600}, Reason.TYPE),
        ({**GOOD, "carrier": "ZZ"}, Reason.ALLOWED),
        ({**GOOD, "tail": "X1"}, Reason.PATTERN),
        ({**GOOD, "delay": "5"}, Reason.TYPE),
        ({**GOOD, "delay": True}, Reason.TYPE),
        ({**GOOD, "delay": 2000.5}, Reason.RANGE),
        ({**GOOD, "seats": 0}, Reason.RANGE),
        ({**GOOD, "seats": 1.5}, Reason.TYPE),
        ({**GOOD, "seats": 2**63}, Reason.TYPE),
        ({**GOOD, "late": 1}, Reason.TYPE),
        ({**GOOD, "carier": "AA"}, Reason.UNKNOWN_FIELD),
        ([GOOD], Reason.MALFORMED),
        (b'{"flight_id":"f1","at":"2026-01-01T00:00:00Z","delay":1e999}', Reason.TYPE),
        (b'{"flight_id":"f1","at":"2026-01-01T00:00:00Z","delay":NaN}', Reason.MALFORMED),
        (b'{"flight_id":"\xff","at":"2026-01-01T00:00:00Z"}', Reason.TYPE),
        (b"[" * 100_000, Reason.MALFORMED),
        (b"", Reason.MALFORMED),
    ],
)
def test_a_bad_row_is_refused_with_its_reason(values, reason):
    found = SCHEMA.decode(raw(values))
    assert isinstance(found, Violation)
    assert found.reason is reason


cells = st.none() | st.booleans() | st.integers(-(2**64), 2**64) | st.floats() | st.text()
rows = st.dictionaries(st.sampled_from([*FIELDS, "other"]), cells) | st.builds(
    lambda carrier, delay, seats: {**GOOD, "carrier": carrier, "delay": delay, "seats": seats},
    st.sampled_from(["AA", "UA", None]),
    st.none() | st.floats(-100, 2000),
    st.none() | st.integers(1, 500),
)


def row_of(schema, values):
    row = schema.decode(raw(values))
    assert isinstance(row, msgspec.Struct)
    return row


@pytest.fixture
async def schemas():
    streams = MemoryProjection(StreamDeclared)
    await streams.put(declared("departures", fields=FIELDS))
    await streams.put(declared("arrivals", fields=FIELDS))
    return Schemas(streams, PersonalKeys(SecretStr(PERSONAL_SECRET)))


def sort(slices, schemas):
    sorting = Sorting(schemas)
    for part in slices:
        sorting.take(part.records)
    return sorting.found


def sorted_of(schemas, values):
    records = tuple(record(value, offset) for offset, value in enumerate(values))
    return sort((Slice("t", 0, records, None),), schemas)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(st.lists(rows, max_size=6))
def test_a_batch_is_sorted_as_each_row_alone_would_be(schemas, several):
    values = [
        raw({"stream": "departures", "record_key": "k", "values": one}) for one in several
    ]
    found = sorted_of(schemas, values)
    bad = [isinstance(SCHEMA.decode(raw(one)), Violation) for one in several]
    assert [row.place.offset for row in found.refused] == list(np.flatnonzero(bad))
    for group in found.groups.values():
        assert group.offsets.tolist() == list(np.flatnonzero(~np.array(bad)))
        places = (group.partitions, group.offsets, group.offsets * 0)
        assert SCHEMA.table(group.rows, *places).num_rows == len(group)


def test_rows_of_several_streams_in_any_form_find_their_stream(schemas):
    envelope = {"stream": "departures", "record_key": "f1", "values": GOOD}
    structured = {"specversion": "1.0", "type": "t", "id": "1", "source": "/", "data": envelope}
    cases = [
        (raw(envelope), ()),
        (raw({**envelope, "stream": "arrivals"}), ()),
        (raw(structured), (("content-type", b"application/cloudevents+json"),)),
        (raw({**envelope, "stream": "nowhere"}), ()),
        (raw({**envelope, "note": "text that shows \\u0000 and no NUL"}), ()),
    ]
    records = tuple(
        replace(record(value, offset), headers=headers)
        for offset, (value, headers) in enumerate(cases)
    )
    found = sort((Slice("t", 0, records, None),), schemas)
    assert found.groups["departures"].offsets.tolist() == [0, 2, 4]
    assert found.groups["arrivals"].offsets.tolist() == [1]
    assert [row.violation.reason for row in found.refused] == [Reason.UNKNOWN_STREAM]
    assert found.stale


def batch_of(form, value, rows, *, stream="departures", version=1):
    told = BatchSubmitted(stream=stream, schemaversion=version, rows=rows, form=form)
    headers = [("ce_type", told.type.encode())]
    headers += [(name, text.encode()) for name, text in told.attributes.items()]
    return replace(record(value, 7), headers=tuple(headers))


def arrow(rows):
    sink = io.BytesIO()
    table = pa.Table.from_pylist(rows)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def ndjson(rows):
    return b"\n".join(raw(one) for one in rows)


MANY = [
    {**GOOD, "flight_id": "f1", "delay": 5.0},
    {**GOOD, "flight_id": "f2", "delay": 9999.0},
    {**GOOD, "flight_id": "f3", "delay": None},
]


@pytest.mark.parametrize(
    ("form", "encode"), [(BatchForm.NDJSON, ndjson), (BatchForm.ARROW, arrow)]
)
def test_the_rows_of_a_batch_are_judged_one_by_one(schemas, form, encode):
    batch = batch_of(form, encode(MANY), 3)
    found = sort((Slice("t", 0, (batch,), None),), schemas)
    group = found.groups["departures"]
    assert (group.keys, group.indices.tolist()) == (["f1", "f3"], [0, 2])
    [bad] = found.refused
    assert (bad.place.offset, bad.place.row, bad.kafka_key) == (7, 1, b"f2")
    assert bad.violation.reason is Reason.RANGE
    again = sorted_of(schemas, [bad.value])
    assert [row.violation.reason for row in again.refused] == [Reason.RANGE]
    assert [row.record_key for row in again.refused] == ["f2"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(rows, min_size=1, max_size=4))
def test_lines_are_taken_at_once_as_one_by_one(schemas, several):
    """A line that is none makes the same lines before it be looked at one by one."""
    value = ndjson(several)
    batch = batch_of(BatchForm.NDJSON, value, len(several))
    longer = batch_of(BatchForm.NDJSON, value + b"\n[]", len(several) + 1)
    found, expected = (sort((Slice("t", 0, (one,), None),), schemas) for one in (batch, longer))
    assert [(bad.place, bad.violation, bad.value) for bad in found.refused] == [
        (bad.place, bad.violation, bad.value) for bad in expected.refused[:-1]
    ]
    assert found.groups.keys() == expected.groups.keys()
    for name, group in found.groups.items():
        other = expected.groups[name]
        assert (group.keys, group.rows, group.row) == (other.keys, other.rows, other.row)
        assert group.envelopes == other.envelopes
        assert {record.value for record in group.records} == {value}


def test_a_line_without_a_key_is_refused_among_good_ones(schemas):
    batch = batch_of(BatchForm.NDJSON, ndjson([GOOD, {**GOOD, "flight_id": ""}]), 2)
    found = sort((Slice("t", 0, (batch,), None),), schemas)
    assert found.groups["departures"].keys == ["f1"]
    assert [(bad.place.row, bad.violation.reason) for bad in found.refused] == [
        (1, Reason.MALFORMED)
    ]


def typed(rows=1, *, compression=None, **columns):
    table = pa.table({"flight_id": pa.array(["a"] * rows), **columns})
    sink = io.BytesIO()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue()


MALFORMED = Reason.MALFORMED
NAIVE = pa.table({"flight_id": ["a"], "at": pa.array([0], pa.timestamp("us"))})
BINARY = pa.table({"flight_id": pa.array([b"a"], pa.binary()), "at": [GOOD["at"]]})


@pytest.mark.parametrize(
    ("form", "value", "rows", "reason"),
    [
        (BatchForm.NDJSON, ndjson(MANY), 2, Reason.MALFORMED),
        (BatchForm.NDJSON, b"", 1, Reason.MALFORMED),
        (BatchForm.ARROW, b"no stream", 1, Reason.MALFORMED),
        (BatchForm.ARROW, arrow(MANY)[:-90], 3, Reason.MALFORMED),
        (BatchForm.ARROW, arrow(BINARY.to_pylist()), 1, Reason.MALFORMED),
        (BatchForm.ARROW, arrow(NAIVE.to_pylist()), 1, Reason.TIMESTAMP),
        (BatchForm.ARROW, arrow([{**GOOD, "delay": float("nan")}]), 1, Reason.TYPE),
        (BatchForm.ARROW, arrow([{**GOOD, "delay": float("inf")}]), 1, Reason.TYPE),
        (BatchForm.NDJSON, raw({**GOOD, "flight_id": "a\0"}), 1, Reason.FORBIDDEN_CHARACTER),
        (BatchForm.ARROW, arrow([{**GOOD, "x": 1}]), 1, Reason.UNKNOWN_FIELD),
        (BatchForm.ARROW, typed(at=pa.array([2**62], pa.timestamp("us", "UTC"))), 1, MALFORMED),
        (BatchForm.ARROW, typed(3_000_000, at=pa.nulls(3_000_000)), 1, MALFORMED),
        (BatchForm.ARROW, typed(compression="zstd", at=pa.array([GOOD["at"]])), 1, MALFORMED),
        (BatchForm.NDJSON, raw({**GOOD, "flight_id": ""}), 1, MALFORMED),
    ],
)
def test_a_batch_that_lies_is_refused(schemas, form, value, rows, reason):
    found = sort((Slice("t", 0, (batch_of(form, value, rows),), None),), schemas)
    assert [row.violation.reason for row in found.refused] == [reason]
    assert not found.groups


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"stream": "nowhere"}, Reason.UNKNOWN_STREAM),
        ({"version": 2}, Reason.UNKNOWN_SCHEMA_VERSION),
    ],
)
def test_a_batch_of_what_is_not_declared_yet_is_kept_whole(schemas, change, reason):
    batch = batch_of(BatchForm.NDJSON, ndjson(MANY), 3, **change)
    found = sort((Slice("t", 0, (batch,), None),), schemas)
    [kept] = found.refused
    assert (kept.violation.reason, kept.value, found.stale) == (reason, batch.value, True)


def test_nanoseconds_are_cut_to_what_the_lake_holds(schemas):
    value = typed(at=pa.array([1_767_225_600_000_000_999], pa.timestamp("ns", "UTC")))
    batch = batch_of(BatchForm.ARROW, value, 1)
    found = sort((Slice("t", 0, (batch,), None),), schemas)
    place = np.zeros(1, dtype=np.int64)
    table = SCHEMA.table(found.groups["departures"].rows, place, place, place)
    assert SCHEMA.times_us(table).tolist() == [1_767_225_600_000_000]


def test_a_refused_line_is_kept_byte_for_byte(schemas):
    line = b'{ "at":"2026-01-01T00:00:00Z", "flight_id":"f1", "delay":5.0e0, "tail":null }'
    batch = batch_of(BatchForm.NDJSON, line, 1)
    group = sort((Slice("t", 0, (batch,), None),), schemas).groups["departures"]
    assert line in group.refuse(0, Violation(Reason.FUTURE, "at: expected less")).value


@pytest.mark.parametrize("version", [0, -5, 2**31, 2**63])
def test_a_schema_version_that_can_be_none_is_malformed(schemas, version):
    envelope = {"stream": "departures", "record_key": "f1", "values": GOOD}
    found = sorted_of(schemas, [raw({**envelope, "schema_version": version})])
    assert [row.violation.reason for row in found.refused] == [Reason.MALFORMED]


@pytest.mark.parametrize("depth", [300, 900, 100_000])
def test_a_structured_event_as_deep_as_you_like_is_malformed(schemas, depth):
    data = b"[" * depth + b"]" * depth
    value = b'{"specversion":"1.0","type":"t","id":"1","source":"/","data":%s}' % data
    one = replace(
        record(value, 0), headers=(("content-type", b"application/cloudevents+json"),)
    )
    found = sort((Slice("t", 0, (one,), None),), schemas)
    assert [row.violation.reason for row in found.refused] == [Reason.MALFORMED]


def test_a_content_is_the_same_in_any_layout_and_with_optional_fields_added_later():
    wider = Schema(
        declared(
            "departures", 2, fields={**FIELDS, "gate": {"type": "string", "nullable": True}}
        )
    )
    one = row_of(SCHEMA, {**GOOD, "delay": 5})
    other = b'{"delay" : 5.0, "at":"2026-01-01T01:00:00+01:00","flight_id":"f1"}'
    two = row_of(wider, other)
    three = row_of(SCHEMA, {**GOOD, "delay": 6})
    assert (SCHEMA.contents([one]) == wider.contents([two])).all()
    assert (SCHEMA.contents([one]) != SCHEMA.contents([three])).any()


good_rows = st.lists(
    st.builds(
        lambda **cells: GOOD | cells,
        at=st.datetimes(
            datetime(1970, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
            timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5))]),
        ).map(datetime.isoformat),
        carrier=st.sampled_from(["AA", "UA", None]),
        tail=st.none() | st.from_regex("^N[0-9]{1,4}\\Z"),
        delay=st.none() | st.floats(-100, 2000) | st.integers(-100, 2000),
        seats=st.none() | st.integers(1, 2**63 - 1),
        late=st.none() | st.booleans(),
    ),
    max_size=5,
)


@given(good_rows)
def test_what_a_commit_says_it_brings_is_what_the_lake_then_holds(values):
    rows = [row_of(SCHEMA, one) for one in values]
    places = np.zeros(len(rows), dtype=np.int64)
    table = SCHEMA.table(rows, places, places, places)
    wider = table.append_column("gate", pa.nulls(len(rows), pa.string()))
    told = Content.of_digests(SCHEMA.contents(rows))
    assert told == Content.of_rows(table.to_pylist()) == Content.of_rows(wider.to_pylist())


@pytest.mark.parametrize("known", [3, 13, 14, 15, 18])
def test_the_lake_adds_up_to_the_content_of_wide_rows_too(known):
    wide = {f"n{at:02}": {"type": "number", "nullable": True} for at in range(20)}
    schema = Schema(declared("departures", fields={**wide, **FIELDS}))
    row = row_of(schema, {**GOOD, **{f"n{at:02}": float(at) for at in range(known)}})
    place = np.zeros(1, dtype=np.int64)
    table = schema.table([row], place, place, place)
    assert Content.of_rows(table.to_pylist()) == Content.of_digests(schema.contents([row]))


def test_times_are_exact_to_the_microsecond_in_any_offset():
    row = row_of(SCHEMA, b'{"flight_id":"f","at":"2026-01-01T01:00:00.000001+01:00"}')
    place = np.zeros(1, dtype=np.int64)
    [time_us] = SCHEMA.times_us(SCHEMA.table([row], place, place, place)).tolist()
    assert time_us == 1_767_225_600_000_001 == micros(row.at)


def test_a_pattern_that_is_no_regular_expression_makes_the_schema_unusable():
    broken = {**FIELDS, "tail": {"type": "string", "pattern": "["}}
    with pytest.raises(UnusableSchemaError):
        Schema(declared("departures", fields=broken))
