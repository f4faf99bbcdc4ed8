"""Batch records: many rows of one stream in one record, decoded into what single rows are."""

import io
import math
import struct
from collections.abc import Iterator, Mapping, Sequence

import msgspec
import pyarrow as pa

from gyral.contracts.batches import BATCH_HEADERS, BatchForm, BatchSubmitted
from gyral.kit.arrow import batch_header
from gyral.kit.cloudevents import MalformedEvent, Record
from gyral.validation.domain.refusals import Reason, Violation, printable, shown
from gyral.validation.engine.schema import Schema, is_key, may_hold_nul

_TYPE = ("ce_type", BatchSubmitted.type.encode())
_ALLOWED = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    pa.types.is_timestamp,
    pa.types.is_null,
)
_encode = msgspec.json.Encoder().encode
Decoded = tuple[msgspec.Struct | Violation, bytes]
"""A row or why it is none, and its JSON."""


def is_batch(record: Record) -> bool:
    """Tell a record of many rows from one of a single row, by its header alone."""
    return _TYPE in record.headers


def described(record: Record) -> BatchSubmitted:
    """Return what a batch's headers say of it.

    Raises:
        MalformedEvent: they do not say enough, or what cannot be.
    """
    told = {
        name: value.decode("utf-8", "replace")
        for name, value in record.headers
        if value is not None
    }
    try:
        return BatchSubmitted.described_by(told)
    except ValueError as error:
        wanted = ", ".join(BATCH_HEADERS)
        raise MalformedEvent(f"headers of a batch ({wanted}): {error}") from error


def rows_of(batch: BatchSubmitted, value: bytes, schema: Schema) -> list[Decoded]:
    """Return each row of a batch, decoded or refused for itself.

    Raises:
        MalformedEvent: the value is not what the headers say.
    """
    rows = _lines(value) if batch.form is BatchForm.NDJSON else _arrow(value, batch.rows)
    if len(rows) != batch.rows:
        raise MalformedEvent(f"rows: expected {batch.rows}; found {len(rows)}")
    if isinstance(rows[0], bytes):
        return [(schema.decode(line), line) for line in rows]
    return list(_converted(rows, schema))


def lines_of(
    batch: BatchSubmitted, value: bytes, schema: Schema
) -> list[msgspec.Struct] | None:
    """Return the rows of a batch of lines if each is good, or None: then ask for each."""
    if batch.form is not BatchForm.NDJSON or may_hold_nul(value):
        return None
    lines = _lines(value)
    rows = schema.decoded(lines) if len(lines) == batch.rows else None
    if rows is None or not all(map(is_key, schema.keys(rows))):
        return None
    return rows


def raw_rows_of(batch: BatchSubmitted, value: bytes) -> list[bytes]:
    """Return the JSON of each row of a batch that nothing is known of; raises as `rows_of`."""
    if batch.form is BatchForm.NDJSON:
        return _lines(value)
    return list(map(_encode, _arrow(value, batch.rows)))


def alone(stream: str, version: int, record_key: str, values: bytes) -> bytes:
    """Return a batch's row as the value of a record of its own."""
    envelope = {
        "stream": stream,
        "schema_version": version,
        "record_key": record_key,
        "values": msgspec.Raw(values),
    }
    return _encode(envelope)


def line_of(record: Record, row: int) -> bytes | None:
    """Return a row's bytes as they came, or None where rows are not lines."""
    form = BatchForm.NDJSON.value.encode()
    if ("content-type", form) not in record.headers or record.value is None:
        return None
    return _lines(record.value)[row]


def _lines(value: bytes) -> list[bytes]:
    lines = value.split(b"\n")
    return lines[:-1] if lines[-1] == b"" else lines


def _arrow(value: bytes, count: int) -> list[dict[str, object]]:
    try:
        _require_rows(value, count)
        with pa.ipc.open_stream(io.BytesIO(value)) as reader:
            _require_plain(reader.schema)
            table = reader.read_all()
        table.validate(full=True)
        rows: list[dict[str, object]] = _in_utc(table).to_pylist()
    except (pa.ArrowException, struct.error, OSError, ValueError, OverflowError) as error:
        raise MalformedEvent(f"Arrow stream: {printable(str(error), 200)}") from error
    return rows


def _require_rows(value: bytes, count: int) -> None:
    """Refuse a stream that would unfold to more than it says, before it does."""
    rows = 0
    for message in pa.ipc.MessageReader.open_stream(pa.BufferReader(value)):
        if message.type == "record batch":
            header = batch_header(message.metadata.to_pybytes())
            rows += header.rows
            if header.packed or rows > count:
                raise MalformedEvent(
                    f"Arrow stream: expected {count} rows, plain; found more, or packed ones"
                )


def _in_utc(table: pa.Table) -> pa.Table:
    """Return times in whole microseconds; what is finer is cut off."""
    for at, column in enumerate(table.columns):
        if pa.types.is_timestamp(column.type) and column.type.tz is not None:
            cut = column.cast(pa.timestamp("us", "UTC"), safe=column.type.unit != "ns")
            table = table.set_column(at, table.field(at).name, cut)
    return table


def _require_plain(schema: pa.Schema) -> None:
    """Refuse what would only look like a field's type once it is written as JSON."""
    for column in schema:
        if not any(is_allowed(column.type) for is_allowed in _ALLOWED):
            raise MalformedEvent(
                f"{printable(column.name, 80)}: expected text, numbers, booleans or timestamps;"
                f" found {printable(str(column.type), 80)}"
            )


def _converted(rows: Sequence[Mapping[str, object]], schema: Schema) -> Iterator[Decoded]:
    for row in rows:
        raw = _encode(row)
        yield _unspeakable(row) or schema.decode(raw), raw


def _unspeakable(row: Mapping[str, object]) -> Violation | None:
    """Return the refusal of a number that JSON has no word for."""
    for name, cell in row.items():
        if isinstance(cell, float) and not math.isfinite(cell):
            detail = printable(f"{name}: expected a finite number; found {shown(cell)}")
            return Violation(Reason.TYPE, detail)
    return None
