"""The rows that are measured with: 12 numbers and 3 texts, about 275 bytes of JSON each."""

import random
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

import orjson
import pyarrow as pa

from gyral.contracts.data import StreamDeclared

NUMBERS = tuple(f"measure_{letter}" for letter in "abcdefghijkl")
_CARRIERS = ("UA", "AA", "DL", "B6", "EV", "MQ")
_FIRST = datetime(2013, 1, 1, tzinfo=UTC)
_STEP = timedelta(milliseconds=100)
WINDOW_ROWS = 1_000_000
"""Rows for which validation remembers each: their event time is the stream's `dedupe`."""
Row = Mapping[str, str | float]


def declared(stream: str) -> StreamDeclared:
    """Return the declaration of the stream the rows belong to."""
    number = {"type": "number", "minimum": -1e6, "maximum": 1e6}
    spec = {
        "apiVersion": "gyral/v1",
        "kind": "Stream",
        "metadata": {"name": stream},
        "spec": {
            "key": "id",
            "event_time": "at",
            "clock": "event",
            "dedupe": f"{WINDOW_ROWS * _STEP.total_seconds():.0f}s",
            "fields": {
                "id": {"type": "string", "max_length": 40},
                "at": {"type": "timestamp"},
                "carrier": {"type": "string", "allowed": list(_CARRIERS)},
                **dict.fromkeys(NUMBERS, number),
            },
        },
    }
    return StreamDeclared.model_validate({"name": stream, "generation": 1, "spec": spec})


def rows(count: int, *, first: int = 0, prefix: str = "flight") -> Sequence[Row]:
    """Return the rows numbered from `first` on; the same numbers are the same rows."""
    rng = random.Random(f"{prefix}/{first}")
    return [
        {
            "id": f"{prefix}-{number:08d}",
            "at": (_FIRST + number * _STEP).isoformat().replace("+00:00", "Z"),
            "carrier": rng.choice(_CARRIERS),
            **{name: round(rng.uniform(0, 1000), 2) for name in NUMBERS},
        }
        for number in range(first, first + count)
    ]


def as_records(stream: str, given: Sequence[Row]) -> list[bytes]:
    """Return rows as the values of Kafka records of one row each."""
    return [
        orjson.dumps(
            {"stream": stream, "schema_version": 1, "record_key": row["id"], "values": row}
        )
        for row in given
    ]


def as_ndjson(given: Sequence[Row]) -> bytes:
    """Return rows as an NDJSON body."""
    return b"\n".join(map(orjson.dumps, given))


def as_arrow(given: Sequence[Row]) -> bytes:
    """Return rows as an Arrow IPC stream."""
    columns = {name: [row[name] for row in given] for name in given[0]}
    times = pa.array(columns.pop("at")).cast(pa.timestamp("us", "UTC"))
    table = pa.table({**columns, "at": times})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body: bytes = sink.getvalue().to_pybytes()
    return body
