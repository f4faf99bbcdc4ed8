"""Arrow and Parquet bodies for tests: good ones, and the parts hostile ones are made of."""

import io
from datetime import UTC, datetime

import pyarrow as pa
import pyarrow.parquet as pq

AT = datetime(2013, 1, 1, 5, 15, tzinfo=UTC)
ID = pa.array(["a", "b"])
TIMES = pa.array([AT, AT], pa.timestamp("us", "UTC"))


def table(**columns):
    """Return a table with key and time, and other columns beside or instead."""
    return pa.table({"id": ID, "at": TIMES, **columns})


def arrow(*batches, **options):
    """Return a stream of tables or batches."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema, **options) as writer:
        for batch in batches:
            writer.write(batch)
    return sink.getvalue().to_pybytes()


def parquet(given, **options):
    """Return a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(given, sink, **options)
    return sink.getvalue()
