"""Columns at the door: good ones go on as they came, a bad one is named by row and field."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pytest
from aiokafka.partitioner import murmur2
from hypothesis import given
from hypothesis import strategies as st

from gyral.contracts.batches import MAX_BATCH_BYTES, BatchForm
from gyral.contracts.specs.stream import FieldType, StreamField
from gyral.ingestion.domain import Door
from gyral.ingestion.engine.bodies import Limits, Task, values_of
from gyral.ingestion.engine.forms import MediaType
from gyral.kit.refusals import Refusal
from tests.services.ingestion.tables import AT, TIMES, arrow, parquet, table

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FIELDS = {
    "id": StreamField(type=FieldType.STRING),
    "at": StreamField(type=FieldType.TIMESTAMP),
    "x": StreamField(type=FieldType.NUMBER, nullable=True),
    "n": StreamField(type=FieldType.INTEGER, nullable=True),
    "s": StreamField(type=FieldType.STRING, nullable=True),
    "b": StreamField(type=FieldType.BOOLEAN, nullable=True),
}
FORMS = (MediaType.ARROW, MediaType.PARQUET)


def read(form, given, *, fields=None, max_rows=10_000, partitions=3):
    body = arrow(given) if form is MediaType.ARROW else parquet(given)
    door = Door("id", "at", NOW)
    task = Task(form, door, fields or FIELDS, Limits(max_rows, 1 << 20), partitions)
    return values_of(body, task)


def as_rows(values):
    return [
        row
        for value in values
        for row in pa.ipc.open_stream(value.content).read_all().to_pylist()
    ]


@pytest.mark.parametrize("form", FORMS)
@given(
    keys=st.lists(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=256)),
    partitions=st.integers(1, 5),
)
def test_every_row_lies_in_its_keys_partition_in_the_order_it_came(form, keys, partitions):
    keys = [key for key in keys if _encodable(key)] or ["a"]
    given = pa.table(
        {
            "id": pa.array(keys, pa.string()),
            "at": pa.array([AT] * len(keys), pa.timestamp("us", "UTC")),
            "n": pa.array(range(len(keys)), pa.int64()),
        }
    )
    values = read(form, given, partitions=partitions)
    assert sorted(row["n"] for row in as_rows(values)) == list(range(len(keys)))
    assert sum(value.rows for value in values) == len(keys)
    for value in values:
        assert value.form is BatchForm.ARROW
        rows = as_rows([value])
        assert [row["n"] for row in rows] == sorted(row["n"] for row in rows)
        for row in rows:
            assert keys[row["n"]] == row["id"]
            assert murmur2(row["id"].encode()) % 2**31 % partitions == value.partition


def _encodable(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"x": pa.array([1.5, None])},
        {"x": pa.array([1.5, 2], pa.float32())},
        {"x": pa.array([1, None], pa.int32()), "n": pa.array([1, 2], pa.uint8())},
        {"n": pa.array([2**63 - 1, None], pa.uint64())},
        {"s": pa.array(["", None], pa.large_string()), "b": pa.array([True, None])},
        {"id": pa.array(["\u00e9" * 256, "b"])},
        {"id": pa.array(["a", "b"], pa.large_string())},
        {"at": pa.array([AT, AT], pa.timestamp("ns", "Europe/Zurich"))},
        {"at": pa.array([AT, AT], pa.timestamp("ms", "UTC"))},
        {"at": pa.array(["2013-01-01T05:15:00Z", "2013-01-01T06:15:00.5+01:00"])},
        {"at": pa.array(["2013-01-01T05:15:00.123456789Z", "2013-01-01T05:15:00Z"])},
    ],
    ids=lambda columns: ",".join(f"{n}:{c.type}" for n, c in columns.items()) or "only these",
)
def test_declared_columns_of_fitting_types_pass_as_they_came(form, columns):
    given = table(**columns)
    found = as_rows(read(form, given))
    key = {row["id"]: row for row in found}
    for sent in given.to_pylist():
        assert key[sent["id"]] == sent


def test_a_column_may_be_cut_from_a_longer_one():
    long = pa.concat_tables([table(x=pa.array([1.0, 2.0]))] * 3).combine_chunks()
    assert len(as_rows(read(MediaType.ARROW, long.slice(1, 4)))) == 4


def test_several_batches_and_empty_ones_are_one_request():
    one = table().to_batches()[0]
    door = Door("id", "at", NOW)
    task = Task(MediaType.ARROW, door, FIELDS, Limits(10, 1 << 20), 1)
    [value] = values_of(arrow(one, one.slice(0, 0), one), task)
    assert [row["id"] for row in as_rows([value])] == ["a", "b", "a", "b"]


def test_long_rows_are_spread_over_records_that_each_can_carry():
    text = ["p" * 300_000 + str(number) for number in range(5)]
    given = pa.table(
        {"id": ["k"] * 5, "at": pa.array([AT] * 5, pa.timestamp("us", "UTC")), "s": text}
    )
    values = read(MediaType.ARROW, given)
    assert max(len(value.content) for value in values) <= MAX_BATCH_BYTES
    assert [row["s"] for row in as_rows(values)] == text


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("columns", "field"),
    [
        ({"id": pa.array(["a", None])}, "row 2: id"),
        ({"id": pa.array(["a", ""])}, "row 2: id"),
        ({"id": pa.array(["a", "x" * 257])}, "row 2: id"),
        ({"id": pa.array(["a\0b", "b"])}, "row 1: id"),
        ({"id": pa.array([1, 2])}, "id"),
        ({"id": pa.array([b"a", b"b"])}, "id"),
        ({"at": pa.array([AT, None], TIMES.type)}, "row 2: at"),
        ({"at": pa.array([AT, NOW + timedelta(seconds=1)], TIMES.type)}, "row 2: at"),
        ({"at": pa.array([-1, 1], pa.int64()).cast(TIMES.type)}, "row 1: at"),
        ({"at": pa.array([0, 2**62], pa.int64()).cast(pa.timestamp("ms", "UTC"))}, "row 2: at"),
        ({"at": pa.array([0, 1], pa.int64()).cast(pa.timestamp("us"))}, "at"),
        ({"at": pa.array(["2013-01-01T05:15:00Z", "2013-01-01T05:15:00"])}, "row 2: at"),
        ({"at": pa.array(["2013-01-01T05:15:00Z", None])}, "row 2: at"),
        ({"at": pa.array(["2999-01-01T05:15:00Z", "x"])}, "row 1: at"),
        ({"x": pa.array([1.0, float("nan")])}, "row 2: x"),
        ({"x": pa.array([float("-inf"), None])}, "row 1: x"),
        ({"x": pa.array([1.0, 2.0], pa.float16())}, "x"),
        ({"x": pa.array(["1", "2"])}, "x"),
        ({"n": pa.array([1, 2**63], pa.uint64())}, "row 2: n"),
        ({"n": pa.array([1.0, 2.0])}, "n"),
        ({"s": pa.array([[1], [2]])}, "s"),
        ({"s": pa.array([{"a": 1}, {"a": 2}])}, "s"),
        ({"b": pa.array([0, 1])}, "b"),
        ({"other": pa.array([0, 1])}, "other"),
        ({"\0\u202e" * 200: pa.array([0, 1])}, None),
    ],
    ids=lambda value: next(iter(value))[:20] if isinstance(value, dict) else str(value),
)
def test_what_does_not_pass_is_named_by_row_and_field(form, columns, field):
    with pytest.raises(Refusal) as refused:
        read(form, table(**columns))
    assert (refused.value.status, refused.value.code) == (422, "invalid")
    if field is not None:
        assert refused.value.field == field
        assert "expected " in refused.value.message
        assert "; found " in refused.value.message


def test_nulls_hide_whatever_lies_below_them():
    held = np.array([np.nan, 1.0])
    column = pa.Array.from_buffers(
        pa.float64(), 2, [pa.py_buffer(b"\x02"), pa.py_buffer(held.tobytes())]
    )
    assert column.to_pylist() == [None, 1.0]
    assert len(as_rows(read(MediaType.ARROW, table(x=column)))) == 2


def test_a_field_that_is_not_nullable_needs_its_column():
    fields = {**FIELDS, "x": StreamField(type=FieldType.NUMBER)}
    with pytest.raises(Refusal) as refused:
        read(MediaType.ARROW, table(), fields=fields)
    assert refused.value.field == "x"


@pytest.mark.parametrize("form", FORMS)
def test_no_rows_and_too_many_are_refused(form):
    with pytest.raises(Refusal) as refused:
        read(form, table().slice(0, 0))
    assert refused.value.code == "empty"
    with pytest.raises(Refusal) as refused:
        read(form, table(), max_rows=1)
    assert refused.value.code == "too_many_rows"


def test_a_row_that_no_record_can_carry_is_refused():
    with pytest.raises(Refusal) as refused:
        read(MediaType.ARROW, table(s=pa.array(["a", "p" * 700_001])))
    assert (refused.value.status, refused.value.code) == (413, "row_too_large")
