"""The benchmark's rows: 12 numbers and 3 texts, about 275 bytes as JSON, always the same."""

import random
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta

import orjson

NUMBERS = tuple(f"n{number:02}" for number in range(12))
START = datetime(2026, 1, 1, tzinfo=UTC)
STREAM = "bench"
_KINDS = ("alpha", "beta", "gamma", "delta")
_STEP = timedelta(milliseconds=100)

SPEC: Mapping[str, object] = {
    "apiVersion": "gyral/v1",
    "kind": "Stream",
    "metadata": {"name": STREAM},
    "spec": {
        "key": "id",
        "event_time": "at",
        "clock": "event",
        "dedupe": "1h",
        "fields": {
            "id": {"type": "string", "max_length": 40},
            "at": {"type": "timestamp"},
            "kind": {"type": "string", "allowed": list(_KINDS)},
            **{name: {"type": "number", "minimum": -1e6, "maximum": 1e6} for name in NUMBERS},
        },
    },
}


def values(first: int, count: int, *, seed: int = 7) -> Iterator[dict[str, object]]:
    """Yield the rows numbered from `first` on."""
    rng = random.Random(f"{seed}/{first}")
    for number in range(first, first + count):
        yield {
            "id": f"row-{number:010}",
            "at": (START + number * _STEP).isoformat(),
            "kind": rng.choice(_KINDS),
            **{name: round(rng.gauss(0, 10), 3) for name in NUMBERS},
        }


def records(rows: Sequence[Mapping[str, object]]) -> list[bytes]:
    """Return rows as the values of single records."""
    return [
        orjson.dumps(
            {"stream": STREAM, "schema_version": 1, "record_key": row["id"], "values": row}
        )
        for row in rows
    ]
