"""Request bodies made from columns."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

import orjson
import pyarrow as pa

from gyral.client.rows.columns import Cells, cells

BATCH_ROWS = 1000
NDJSON = "application/x-ndjson"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write a table of typed columns into a body."""

    content_type: str
    encode: Callable[[pa.Table], bytes]


def ndjson(columns: Mapping[str, Cells]) -> bytes:
    """Return cells as JSON objects, one a line."""
    names = tuple(columns)
    rows = zip(*(each.tolist() for each in columns.values()), strict=True)
    return b"\n".join([orjson.dumps(dict(zip(names, row, strict=True))) for row in rows])


async def leaving_room(prepared: Iterator[T]) -> AsyncIterator[T]:
    """Yield what is made in a thread, so that making it holds up nothing under way."""
    take: Callable[[], T | None] = lambda: next(prepared, None)  # noqa: E731 - one line
    while (made := await asyncio.to_thread(take)) is not None:
        yield made


def _ndjson_of_table(table: pa.Table) -> bytes:
    return ndjson({name: cells(table.column(name)) for name in table.column_names})


def _arrow_of_table(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table.combine_chunks())
    body: bytes = sink.getvalue().to_pybytes()
    return body


AS_NDJSON = Form(NDJSON, _ndjson_of_table)
AS_ARROW = Form("application/vnd.apache.arrow.stream", _arrow_of_table)
TABLES = AS_ARROW
"""How rows of CSV, Parquet and Postgres travel."""
