"""Columns at the door: declared fields of their types, with keys and times; no row objects."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

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
class Keys:
    """A column of keys as it lies in memory: all texts, and where each begins and ends."""

    text: NDArray[np.uint8]
    bounds: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Columns:
    """Rows as one batch of columns, beside the column of their keys."""

    batch: pa.RecordBatch
    keys: Keys

    def __len__(self) -> int:
        """Count the rows."""
        count: int = self.batch.num_rows
        return count

    def values(self, partitions: int) -> Iterator[Value]:
        """Yield the rows by partition, in the order they came."""
        found = partitions_within(self.keys.text.data, self.keys.bounds, partitions)
        order = np.argsort(found.astype(np.int16), kind="stable").astype(np.int64)
        ends = np.cumsum(np.bincount(found, minlength=partitions))
        # From its buffer, for pyarrow's own way from numpy asks whether pandas is there.
        places = pa.Array.from_buffers(pa.int64(), len(order), [None, pa.py_buffer(order)])
        together = self.batch.take(places)
        pieces = (
            _one_piece if together.get_total_buffer_size() < MAX_BATCH_BYTES // 2 else _pieces
        )
        start = 0
        for partition, end in enumerate(ends.tolist()):
            if end > start:
                yield from pieces(partition, together.slice(start, end - start))
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
    keys = checked_keys(batch.column(door.key), door.key)
    _check_times(batch.column(door.event_time), door)
    for name, column in zip(batch.schema.names, batch.columns, strict=True):
        _check_numbers(name, column)
    return Columns(batch, keys)


def checked_keys(column: pa.Array, field: str) -> Keys:
    """Return a column of keys as they lie in memory; raises as `check_rows` does."""
    if column.null_count:
        raise _refused(column, _first(pc.is_null(column)), field, A_KEY)
    wide = column.cast(pa.large_string())
    _, offsets, text = wide.buffers()
    bounds = np.frombuffer(offsets, np.int64)[wide.offset : wide.offset + len(wide) + 1]
    held = np.frombuffer(text, np.uint8) if text is not None else np.zeros(0, np.uint8)
    keys = Keys(held, bounds)
    lengths = np.diff(bounds)
    if lengths.min() < 1:
        raise _refused(column, int(lengths.argmin()), field, A_KEY)
    # A character is a byte or more, so most keys need not be counted.
    if lengths.max() > MAX_KEY_CHARS:
        chars = np.array(pc.utf8_length(column).to_pylist())
        if chars.max() > MAX_KEY_CHARS:
            raise _refused(column, int(chars.argmax()), field, A_KEY)
    used = held[bounds[0] : bounds[-1]]
    if not used.all():
        at = int(bounds[0]) + int(used.argmin())
        raise _refused(column, int(np.searchsorted(bounds, at, "right")) - 1, field, A_KEY)
    return keys


def _check_numbers(field: str, column: pa.Array) -> None:
    """Expect what JSON can say: finite numbers, and integers that the lake can hold."""
    if pa.types.is_floating(column.type):
        wrong, expected = ~np.isfinite(_numbers(column)), "a finite number"
    elif pa.types.is_uint64(column.type):
        wrong, expected = _numbers(column) >= np.uint64(2**63), "an integer below 2^63"
    else:
        return
    if wrong.any():
        # What lies below a missing value means nothing.
        told = wrong & ~np.array(pc.is_null(column).to_pylist())
        if told.any():
            raise _refused(column, int(told.argmax()), field, expected)


def _numbers(column: pa.Array) -> NDArray[np.generic]:
    """Return a column of numbers as they lie in memory, whatever is below its nulls."""
    held = np.frombuffer(column.buffers()[1], dtype=column.type.to_pandas_dtype())
    return held[column.offset : column.offset + len(column)]


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
    if times.null_count:
        raise _refused(times, _first(pc.is_null(times)), door.event_time, A_TIME)
    counts = np.frombuffer(times.buffers()[1], np.int64)
    counts = counts[times.offset : times.offset + len(times)]
    since_1970 = (door.latest - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    latest = since_1970 * _UNITS_A_SECOND[times.type.unit] // 10**6
    if counts.min() < 0:
        expected = "a time of 1970 or later"
        raise _refused(times, int(counts.argmin()), door.event_time, expected)
    if counts.max() > latest:
        expected = no_later_than(door.latest)
        raise _refused(times, int(counts.argmax()), door.event_time, expected)


def _first(mask: pa.BooleanArray) -> int:
    places: list[bool] = mask.to_pylist()
    return places.index(True)


def _refused(column: pa.Array, row: int, field: str, expected: str) -> Refusal:
    value = column[row]
    found: object = None
    if value.is_valid:
        # A timestamp may lie beyond what Python's calendar has.
        is_time = pa.types.is_timestamp(value.type)
        found = f"{value.value} {value.type.unit} since 1970" if is_time else value.as_py()
    return _at(row, f"{field}: expected {expected}; found {shown(found)}", field)


def _one_piece(partition: int, rows: pa.RecordBatch) -> Iterator[Value]:
    yield Value(partition, rows.num_rows, BatchForm.ARROW, _written(rows))


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
