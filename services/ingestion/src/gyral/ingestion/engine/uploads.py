"""Arrow and Parquet bodies as columns: nothing is decoded before its size is known."""

from collections.abc import Callable, Mapping, Sequence
from struct import error as struct_error
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from gyral.contracts.specs.stream import FieldType, StreamField
from gyral.ingestion.domain import Door
from gyral.ingestion.engine.columns import Columns, check_fields, check_rows
from gyral.ingestion.engine.forms import no_rows, too_many_rows
from gyral.ingestion.engine.headers import page_sizes
from gyral.kit.arrow import batch_header
from gyral.kit.bodies import too_large
from gyral.kit.refusals import Refusal, clip

T = TypeVar("T")
Fields = Mapping[str, StreamField]
MAX_COLUMNS = 500
_MAX_PAGES = 50_000
_END = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_THRIFT_BYTES = 1 << 20
_BAD = (
    pa.ArrowException,
    OSError,
    MemoryError,
    ValueError,
    TypeError,
    LookupError,
    struct_error,
)


def read_arrow(body: bytes, door: Door, fields: Fields, *, max_rows: int) -> Columns:
    """Return the rows of an Arrow IPC stream, or refuse it whole.

    Raises:
        Refusal: 400 for bytes that are none, 413 for too much, 422 naming row and field.
    """
    _decoded("an Arrow IPC stream", lambda: _survey(body, max_rows))
    reader = _decoded("an Arrow IPC stream", lambda: pa.ipc.open_stream(pa.py_buffer(body)))
    _check_width(len(reader.schema))
    _decoded("an Arrow IPC stream", lambda: check_fields(reader.schema, fields))
    return check_rows(_decoded("an Arrow IPC stream", lambda: _whole(reader)), door)


def read_parquet(
    body: bytes, door: Door, fields: Fields, *, max_rows: int, max_bytes: int
) -> Columns:
    """Return the rows of a Parquet file; raises as `read_arrow` does.

    `max_bytes` bounds its pages once they are unpacked, and its texts once written out.
    """
    file = _decoded("a Parquet file", lambda: _opened(body))
    _check_width(file.metadata.num_columns)
    if file.metadata.num_rows > max_rows:
        raise too_many_rows(max_rows)
    if file.metadata.num_rows == 0:
        raise no_rows()
    _decoded("a Parquet file", lambda: _weigh(body, max_bytes))
    schema = _decoded("a Parquet file", lambda: _as_sent(file.schema_arrow))
    _decoded("a Parquet file", lambda: check_fields(schema, fields))
    # As dictionaries, texts take what the file holds, not what its rows repeat.
    texts = [column.name for column in schema if fields[column.name].type is FieldType.STRING]
    table = _decoded("a Parquet file", lambda: _opened(body, texts).read(use_threads=False))
    return check_rows(_decoded("a Parquet file", lambda: _written_out(table, max_bytes)), door)


def _opened(body: bytes, dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    return pq.ParquetFile(
        pa.BufferReader(body),
        read_dictionary=list(dictionaries),
        thrift_string_size_limit=_THRIFT_BYTES,
        thrift_container_size_limit=_THRIFT_BYTES,
    )


def _survey(body: bytes, max_rows: int) -> None:
    """Look at the messages' own descriptions: rows, packed buffers, a proper end."""
    source = pa.BufferReader(body)
    rows = 0
    for message in pa.ipc.MessageReader.open_stream(source):
        if message.type == "record batch":
            described = batch_header(message.metadata.to_pybytes())
            if described.packed:
                found = "compressed buffers. Send them plain, with Content-Encoding: zstd"
                raise _bad_arrow(f"plain buffers; found {found}")
            rows += described.rows
            if rows > max_rows:
                raise too_many_rows(max_rows)
        elif message.type != "schema":
            raise _bad_arrow(f"a schema and record batches only; found a {message.type}")
    if source.tell() != len(body) or not body.endswith(_END):
        raise _bad_arrow("one stream and its end-of-stream marker; found less or more")


def _whole(reader: pa.RecordBatchReader) -> pa.RecordBatch:
    batches = list(reader)
    for batch in batches:
        batch.validate(full=True)
    if len(batches) == 1:
        return batches[0]
    whole = pa.Table.from_batches(batches, reader.schema).combine_chunks()
    return pa.RecordBatch.from_arrays(
        [_one_chunk(column) for column in whole.columns], schema=reader.schema
    )


def _one_chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.chunk(0) if column.num_chunks == 1 else pa.array([], column.type)


def _weigh(body: bytes, max_bytes: int) -> None:
    """Add up what all pages unpack to, by their own headers: a footer may say anything."""
    total = 0
    for pages, size in enumerate(page_sizes(body), start=1):
        total += size
        if total > max_bytes or pages > _MAX_PAGES:
            raise too_large(max_bytes)


def _as_sent(schema: pa.Schema) -> pa.Schema:
    """Return a schema with texts as texts, not as the dictionaries they are read as."""
    plain = [
        field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field
        for field in schema
    ]
    return pa.schema(plain)


def _written_out(table: pa.Table, max_bytes: int) -> pa.RecordBatch:
    """Return a table as one batch with dictionaries written out, if they stay within limits."""
    total = 0
    columns = []
    for column in table.unify_dictionaries().combine_chunks().columns:
        array = _one_chunk(column)
        if pa.types.is_dictionary(array.type):
            lengths = pc.take(pc.binary_length(array.dictionary), array.indices)
            total += pc.sum(lengths).as_py() or 0
            if total > max_bytes:
                raise too_large(max_bytes)
            array = array.dictionary_decode()
        columns.append(array)
    batch = pa.RecordBatch.from_arrays(columns, schema=_as_sent(table.schema))
    batch.validate(full=True)
    return batch


def _decoded(what: str, decode: Callable[[], T]) -> T:
    """Return what was decoded; whatever a decoder says of hostile bytes is a 400."""
    try:
        return decode()
    except Refusal:
        raise
    except _BAD as error:
        first = clip((str(error).splitlines() or [type(error).__name__])[0])
        code = "bad_parquet" if "Parquet" in what else "bad_arrow"
        raise Refusal(
            400, code, f"expected {what}; found bytes that are none: {first}"
        ) from error


def _check_width(columns: int) -> None:
    if columns > MAX_COLUMNS:
        message = f"expected at most {MAX_COLUMNS} columns; found {columns}"
        raise Refusal(422, "invalid", message, field="columns")


def _bad_arrow(expected: str) -> Refusal:
    return Refusal(400, "bad_arrow", f"Arrow IPC: expected {expected}")
