"""The forms in which rows go: messages of Kafka, and requests of the door with their bodies."""

import gzip
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from tests.chaos import rows
from tests.chaos.rows import Bad, Headers, Row

_LARGEST_REQUEST = 100
_BINARY: Headers = (
    ("ce_specversion", b"1.0"),
    ("ce_type", b"data.record.submitted.v1"),
    ("ce_source", b"/upstream"),
    ("content-type", b"application/json"),
)
_STRUCTURED: Headers = (("content-type", b"application/cloudevents+json; charset=utf-8"),)
Either = Row | Bad


class Placed(TypedDict):
    """What Kafka is told of a message besides its value."""

    key: bytes
    headers: list[tuple[str, bytes]]
    partition: int | None


@dataclass(frozen=True, slots=True)
class Message:
    """What goes straight into Kafka: a row, or a marker or event that is none."""

    name: str
    row: Either | None
    value: bytes | None
    headers: Headers
    key: str
    partition: int | None = None

    def placed(self) -> Placed:
        """Return how it is addressed."""
        headers = list(self.headers)
        return {"key": self.key.encode(), "headers": headers, "partition": self.partition}


@dataclass(frozen=True, slots=True)
class Request:
    """Rows as they go through the door; the name is the Idempotency-Key of all tries."""

    name: str
    stream: str
    rows: Sequence[Either]
    body: bytes
    headers: dict[str, str]


@dataclass(slots=True)
class Parcels:
    """Makes them, each with a name of its own."""

    stream: str
    _made: int = 0

    def message(self, rng: random.Random, row: Either) -> Message:
        """Return a row for Kafka: bare, or as a CloudEvent in binary or structured mode."""
        name = self._named()
        if isinstance(row, Bad):
            return Message(name, row, row.value, row.headers, row.key)
        match rng.randrange(3):
            case 0:
                return Message(name, row, rows.structured(row), _STRUCTURED, row.key)
            case 1:
                headers = (*_BINARY, ("ce_id", name.encode()))
                return Message(name, row, rows.as_text(row.envelope()), headers, row.key)
        return Message(name, row, rows.as_text(row.envelope()), (), row.key)

    def requests(self, rng: random.Random, drawn: Sequence[Either]) -> list[Request]:
        """Return all rows in requests; a bad one takes few others down with it."""
        left = [row for row in drawn if isinstance(row, Row)]
        made = []
        for row in drawn:
            if isinstance(row, Bad):
                beside = [] if row.stream else [left.pop() for _ in range(rng.randrange(4))]
                made.append(self.request(rng, [*beside, row], row.stream or self.stream))
        while left:
            size = rng.randint(1, _LARGEST_REQUEST)
            taken, left = left[:size], left[size:]
            made.append(self.request(rng, taken, self.stream))
        return made

    def request(self, rng: random.Random, drawn: Sequence[Either], stream: str) -> Request:
        """Return rows as lines, packed or not, or as CloudEvents where all are good."""
        form = rng.randrange(3)
        good = [row for row in drawn if isinstance(row, Row)]
        headers = {"content-type": "application/x-ndjson"}
        if form == 0 and len(good) == len(drawn):
            headers["content-type"] = "application/cloudevents-batch+json"
            body = json.dumps([_event(row) for row in good]).encode()
        else:
            body = b"\n".join(_line(row) for row in drawn)
        if form == 1:
            headers["content-encoding"] = "gzip"
            body = gzip.compress(body, 1)
        return Request(self._named(), stream, drawn, body, headers)

    def _named(self) -> str:
        self._made += 1
        return f"{self.stream}-{self._made}"


def fits_door(row: Either) -> bool:
    """Tell whether a row can come through the door at all."""
    return isinstance(row, Row) or row.line is not None


def _line(row: Either) -> bytes:
    if isinstance(row, Row):
        return rows.as_text(row.values)
    assert row.line is not None
    return row.line


def _event(row: Row) -> rows.Values:
    return {
        "specversion": "1.0",
        "id": row.key,
        "source": "/upstream",
        "type": "row",
        "data": row.values,
    }
