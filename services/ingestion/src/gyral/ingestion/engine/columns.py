"""Columns at the door: declared fields of their types, with keys and times; no row objects."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from gyral.contracts.batches import MAX_BATCH_BYTES, MAX_BATCH_ROWS, BatchForm
from gyral.contracts.specs.stream import FieldType, StreamField
from gyral.ingestion.domain import (
    A_KEY,
    A_TIME,
    MAX_KEY_CHARS,
    Door,
    RefusedRowError,
    no_later_than,
    shown,
)
from gyral.ingestion.engine.forms import Value, no_rows, too_long_a_row
from gyral.kit.partitioning import partitions_within
from gyral.kit.refusals import Refusal, clip

_UNITS_A_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_EXPECTED = {
    FieldType.STRING: "utf8 or large_utf8",
    FieldType.INTEGER: "an integer",
    FieldType.NUMBER: "float32, float64 or an integer",
    FieldType.BOOLEAN: "bool",
    FieldType.TIMESTAMP: "a timestamp with a time zone, or RFC 3339 text",
}


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows as one batch of columns, beside the column of their keys."""

    batch: pa.RecordBatch
    keys: pa.LargeStringArray

    def __len__(self) -> int:
        """Count the rows."""
        count: int = self.batch.num_rows
        return count

    def values(self, partitions: int) -> Iterator[Value]:
        """Yield the rows by partition, in the order they came."""
        found = _partitions_of(self.keys, partitions)
        order = np.argsort(found, kind="stable")
        ends = np.cumsum(np.bincount(found, minlength=partitions))
        together = self.batch.take(pa.array(order))
        start = 0
        for partition, end in enumerate(ends.tolist()):
            if end > start:
                yield from _pieces(partition, together.slice(start, end - start))
            start = end


def check_fields(schema: pa.Schema, fields: Mapping[str, StreamField]) -> None:
    """Pass columns that are declared fields of their types, with none missing that must be.

    Raises:
        Refusal: 422, naming the field at fault.
    """
    names = set(schema.names)
    if len(names) != len(schema):
        raise _of_field(
            "columns", f"each of the {len(names)} names once", f"{len(schema)} columns"
        )
    for column in schema:
        declared = fields.get(column.name)
        if declared is None:
            raise _of_field(
                clip(column.name), "declared fields only", "a column of another name"
            )
        if not _fits(column.type, declared.type):
            found = clip(str(column.type))
            raise _of_field(column.name, _EXPECTED[declared.type], f"a column of {found}")
    for name, declared in fields.items():
        if name not in names and not declared.nullable:
            raise _of_field(name, "a column, for the field is not nullable", "none")


def check_rows(batch: pa.RecordBatch, door: Door) -> Columns:
    """Return the rows, having checked keys and times, and that numbers are such as JSON has.

    Raises:
        Refusal: 422, naming row and field at fault.
    """
    if batch.num_rows == 0:
        raise no_rows()
    keys = batch.column(door.key)
    lengths = pc.utf8_length(keys)
    wrong = pc.or_(
        pc.or_(pc.less(lengths, 1), pc.greater(lengths, MAX_KEY_CHARS)),
        pc.match_substring(keys, "\0"),
    )
    _expect_none(pc.fill_null(wrong, True), keys, door.key, A_KEY)  # noqa: FBT003 - missing is wrong
    _check_times(batch.column(door.event_time), door)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        _check_numbers(name, column)
    return Columns(batch, keys.cast(pa.large_string()))


def _check_numbers(field: str, column: pa.Array) -> None:
    if pa.types.is_floating(column.type):
        if column.null_count == 0 and np.isfinite(column.to_numpy()).all():
            return
        wrong = pc.fill_null(pc.invert(pc.is_finite(column)), False)  # noqa: FBT003 - may be missing
        _expect_none(wrong, column, field, "a finite number")
    elif pa.types.is_uint64(column.type):
        beyond = pc.greater(column, pa.scalar(2**63 - 1, pa.uint64()))
        _expect_none(pc.fill_null(beyond, False), column, field, "an integer below 2^63")  # noqa: FBT003 - as above


def _fits(found: pa.DataType, declared: FieldType) -> bool:
    return any(is_of(found) for is_of in _FITTING[declared])


def _is_zoned(found: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(found) and found.tz is not None)


_TEXT = (pa.types.is_string, pa.types.is_large_string)
_FITTING: Mapping[FieldType, Sequence[Callable[[pa.DataType], bool]]] = {
    FieldType.STRING: _TEXT,
    FieldType.INTEGER: (pa.types.is_integer,),
    FieldType.NUMBER: (pa.types.is_float32, pa.types.is_float64, pa.types.is_integer),
    FieldType.BOOLEAN: (pa.types.is_boolean,),
    FieldType.TIMESTAMP: (_is_zoned, *_TEXT),
}


def _check_times(times: pa.Array, door: Door) -> None:
    if pa.types.is_timestamp(times.type):
        _check_timestamps(times, door)
        return
    if times.null_count == 0:
        try:
            # Zone and digits of each text may differ; all end as microseconds UTC.
            _check_timestamps(times.cast(pa.timestamp("us", "UTC")), door)
        except (pa.ArrowInvalid, Refusal):
            pass
        else:
            return
    for row, time in enumerate(times.to_pylist()):
        try:
            door.check_time(time)
        except RefusedRowError as refused:
            raise _at(row, str(refused), refused.field) from refused


def _check_timestamps(times: pa.Array, door: Door) -> None:
    per_second = _UNITS_A_SECOND[times.type.unit]
    since_1970 = door.latest - datetime(1970, 1, 1, tzinfo=UTC)
    latest = min(int(since_1970.total_seconds()) * per_second, 2**63 - 1)
    counts = times.view(pa.int64())
    bounds = pc.min_max(counts).as_py()
    if times.null_count == 0 and bounds["min"] >= 0 and bounds["max"] <= latest:
        return
    for wrong, expected in (
        (pc.is_null(counts), A_TIME),
        (pc.less(counts, 0), "a time of 1970 or later"),
        (pc.greater(counts, latest), no_later_than(door.latest)),
    ):
        _expect_none(pc.fill_null(wrong, False), times, door.event_time, expected)  # noqa: FBT003 - seen before


def _expect_none(wrong: pa.BooleanArray, values: pa.Array, field: str, expected: str) -> None:
    """Expect that no row is wrong, else name the first."""
    if wrong.true_count:
        row = pc.index(wrong, True).as_py()
        found = shown(_plain(values[row]))
        raise _at(row, f"{field}: expected {expected}; found {found}", field)


def _plain(value: pa.Scalar) -> object:
    """Return a value for people; a timestamp may lie beyond what Python's calendar has."""
    if pa.types.is_timestamp(value.type):
        return None if not value.is_valid else f"{value.value} {value.type.unit} since 1970"
    return value.as_py()


def _partitions_of(keys: pa.LargeStringArray, count: int) -> NDArray[np.int32]:
    _, offsets, text = keys.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[keys.offset : keys.offset + len(keys) + 1]
    return partitions_within(memoryview(text), bounds, count)


def _pieces(partition: int, rows: pa.RecordBatch) -> Iterator[Value]:
    """Yield rows in runs that fit one record each."""
    if rows.num_rows <= MAX_BATCH_ROWS and rows.nbytes <= MAX_BATCH_BYTES:
        content = _written(rows)
        if len(content) <= MAX_BATCH_BYTES:
            yield Value(partition, rows.num_rows, BatchForm.ARROW, content)
            return
    if rows.num_rows == 1:
        raise too_long_a_row("row", MAX_BATCH_BYTES)
    half = rows.num_rows // 2
    yield from _pieces(partition, rows.slice(0, half))
    yield from _pieces(partition, rows.slice(half))


def _written(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _of_field(field: str, expected: str, found: str) -> Refusal:
    return Refusal(422, "invalid", f"{field}: expected {expected}; found {found}", field=field)


def _at(row: int, message: str, field: str) -> Refusal:
    place = f"row {row + 1}"
    return Refusal(422, "invalid", f"{place}: {message}", field=f"{place}: {field}")
