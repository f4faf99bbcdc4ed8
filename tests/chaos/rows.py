"""Good and bad rows as an upstream makes them from a seed: plain Python, no code of ours."""

import json
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone

Values = dict[str, object]
Headers = tuple[tuple[str, bytes], ...]
KINDS = ("red", "green", "blue")
_BEGAN = datetime(2020, 1, 1, tzinfo=UTC)
_TEXTS = (
    "",
    "plain",
    "naïve café",
    "日本語",
    'a "quoted" \\ text',
    "tab\tand\nline",
    "😀",
    "\\u0000",
)
_STRUCTURED: Headers = (("content-type", b"application/cloudevents+json"),)


def declaration(stream: str, generation: int) -> Values:
    """Return what tells of the stream; its second generation has one more nullable field."""
    fields: dict[str, object] = {
        "id": {"type": "string", "max_length": 40},
        "at": {"type": "timestamp"},
        "amount": {"type": "number", "minimum": -1000, "maximum": 1000},
        "count": {"type": "integer", "minimum": 0, "maximum": 1_000_000},
        "kind": {"type": "string", "allowed": list(KINDS)},
        "code": {"type": "string", "pattern": "^N[0-9]+$", "nullable": True},
        "text": {"type": "string", "max_length": 64, "nullable": True},
        "flag": {"type": "boolean", "nullable": True},
    }
    if generation > 1:
        fields["note"] = {"type": "string", "nullable": True}
    body = {"key": "id", "event_time": "at", "clock": "event", "fields": fields}
    document = {
        "apiVersion": "gyral/v1",
        "kind": "Stream",
        "metadata": {"name": stream},
        "spec": body,
    }
    return {"name": stream, "generation": generation, "spec": document}


@dataclass(frozen=True, slots=True)
class Row:
    """A row, and the generation of the stream that its sender knows."""

    stream: str
    key: str
    values: Values
    version: int = 1

    def envelope(self, **changes: object) -> Values:
        """Return the row as it is put straight into Kafka."""
        whole: Values = {
            "stream": self.stream,
            "schema_version": self.version,
            "record_key": self.key,
            "values": self.values,
        }
        return whole | changes

    def with_values(self, **changes: object) -> "Row":
        """Return the same row with other values."""
        return Row(self.stream, self.key, self.values | changes, self.version)


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that must be refused, and what for."""

    key: str
    kind: str
    reason: str
    value: bytes | None
    """What is put straight into Kafka."""
    headers: Headers = ()
    line: bytes | None = None
    """The same as a line for the door; None where only Kafka can hold such a thing."""
    stream: str = ""
    """The stream the door is told; empty: the one that exists."""


def good(seed: int, stream: str, number: int, version: int = 1) -> Row:
    """Return the row of a number: the same again for the same seed."""
    rng = random.Random(f"{seed}/{number}/{version}")
    zone = timezone(timedelta(minutes=rng.choice((0, 0, 60, -330, 765))))
    at = _BEGAN + timedelta(seconds=number, microseconds=rng.randrange(10**6))
    values: Values = {
        "id": f"r{number}",
        "at": at.astimezone(zone).isoformat(),
        "amount": rng.choice((round(rng.uniform(-1000, 1000), 6), rng.randrange(1000))),
        "count": rng.choice((0, 1_000_000, rng.randrange(1_000_000))),
        "kind": rng.choice(KINDS),
    }
    for name, value in (
        ("code", f"N{rng.randrange(10**6)}"),
        ("text", rng.choice(_TEXTS)),
        ("flag", rng.random() < 0.5),
    ):
        match rng.randrange(3):
            case 0:
                values[name] = value
            case 1:
                values[name] = None
    if version > 1:
        values["note"] = f"note of {number}"
    names = list(values)
    rng.shuffle(names)
    return Row(stream, f"r{number}", {name: values[name] for name in names}, version)


def as_text(value: object) -> bytes:
    """Return JSON, escaped or not as the value itself decides: upstreams differ."""
    text = json.dumps(value, ensure_ascii=len(str(value)) % 2 == 0)
    return text.encode()


def structured(row: Row) -> bytes:
    """Return a row as a CloudEvent in structured mode."""
    event = {
        "specversion": "1.0",
        "id": row.key,
        "source": "/upstream",
        "type": "data.record.submitted.v1",
        "datacontenttype": "application/json",
        "data": row.envelope(),
    }
    return as_text(event)


def _changed(**changes: object) -> Callable[[Row], tuple[bytes, bytes]]:
    def make(row: Row) -> tuple[bytes, bytes]:
        other = row.with_values(**changes)
        return as_text(other.envelope()), as_text(other.values)

    return make


def _without(name: str) -> Callable[[Row], tuple[bytes, bytes]]:
    def make(row: Row) -> tuple[bytes, bytes]:
        left = {known: value for known, value in row.values.items() if known != name}
        return as_text(row.envelope(values=left)), as_text(left)

    return make


def _raw(value: bytes) -> Callable[[Row], tuple[bytes, bytes]]:
    """Put bytes in the place of a row's values, whatever they are."""

    def make(row: Row) -> tuple[bytes, bytes]:
        head = as_text(row.envelope(values=0))
        return head.replace(b'"values": 0', b'"values": ' + value), value

    return make


def _raw_amount(number: bytes) -> Callable[[Row], tuple[bytes, bytes]]:
    def make(row: Row) -> tuple[bytes, bytes]:
        other = row.with_values(count=0)
        spell = (b'"count": 0', b'"count": ' + number)
        return as_text(other.envelope()).replace(*spell), as_text(other.values).replace(*spell)

    return make


def _cut(row: Row) -> tuple[bytes, bytes]:
    return as_text(row.envelope())[:-9], as_text(row.values)[:-9]


_BOTH_WAYS: Mapping[str, tuple[str, Callable[[Row], tuple[bytes, bytes]]]] = {
    "cut short": ("malformed", _cut),
    "no object": ("malformed", _raw(b"[1, 2]")),
    "not a number": ("malformed", _raw(b'{"amount": NaN}')),
    "nested deeply": ("malformed", _raw(b"[" * 50_000)),
    "wrong type": ("type", _changed(amount="12")),
    "truth for a number": ("type", _changed(count=True)),
    "huge integer": ("type", _raw_amount(b"1" + b"0" * 40)),
    "integer of 5,000 digits": ("type", _raw_amount(b"7" * 5000)),
    "infinite by exponent": ("type", _raw_amount(b"1e999")),
    "out of range": ("range", _changed(amount=1000.5)),
    "field missing": ("required", _without("amount")),
    "null for required": ("required", _changed(kind=None)),
    "unknown field": ("unknown_field", _changed(colour="red")),
    "future": ("future", _changed(at="2999-01-01T00:00:00Z")),
    "before 1970": ("timestamp", _changed(at="1969-12-31T23:59:59Z")),
    "time without offset": ("timestamp", _changed(at="2020-01-01T00:00:00")),
    "no time at all": ("timestamp", _changed(at="yesterday")),
    "NUL in a text": ("forbidden_character", _changed(text="a\0b")),
    "not allowed": ("allowed", _changed(kind="purple")),
    "no match": ("pattern", _changed(code="M1")),
    "too long": ("max_length", _changed(text="x" * 65)),
}


def _key_of_another(row: Row) -> Bad:
    value = as_text(row.with_values(id=f"{row.key}-other").envelope())
    return Bad(row.key, "key of another", "key_mismatch", value)


def _unknown_stream(row: Row) -> Bad:
    nobody = f"{row.stream}-of-nobody"
    value = as_text(row.envelope(stream=nobody))
    line = as_text(row.values)
    return Bad(row.key, "unknown stream", "unknown_stream", value, (), line, nobody)


def _of_later(row: Row) -> Bad:
    value = as_text(row.envelope(schema_version=99))
    return Bad(row.key, "later version", "unknown_schema_version", value)


def _bytes(kind: str, value: bytes | None, headers: Headers = ()) -> Callable[[Row], Bad]:
    return lambda row: Bad(row.key, kind, "malformed", value, headers)


def _both(kind: str) -> Callable[[Row], Bad]:
    def make(row: Row) -> Bad:
        reason, spell = _BOTH_WAYS[kind]
        value, line = spell(row)
        return Bad(row.key, kind, reason, value, (), line)

    return make


MAKERS: Mapping[str, Callable[[Row], Bad]] = {
    **{kind: _both(kind) for kind in _BOTH_WAYS},
    "key of another": _key_of_another,
    "unknown stream": _unknown_stream,
    "later version": _of_later,
    "tombstone": _bytes("tombstone", None),
    "nothing": _bytes("nothing", b""),
    "no UTF-8": _bytes("no UTF-8", b'{"stream": "\xff"}'),
    "structured, cut short": _bytes(
        "structured, cut short", b'{"specversion": "1.0"', _STRUCTURED
    ),
    "structured, without type": _bytes(
        "structured, without type", b'{"data": {}}', _STRUCTURED
    ),
    "structured, a list": _bytes("structured, a list", b"[1]", _STRUCTURED),
}
"""Every way to be bad that is a row's own; `conflict` makes the one that takes two."""


def bad(seed: int, stream: str, number: int) -> Bad:
    """Return the bad row of a number; each kind comes in turn."""
    kinds = list(MAKERS)
    row = good(seed, stream, number)
    key = f"bad-{number}"
    renamed = Row(stream, key, row.values | {"id": key})
    return MAKERS[kinds[number % len(kinds)]](renamed)


def conflict(row: Row) -> Bad:
    """Return a good row's key with other content: refused when it comes after the good one."""
    other = row.with_values(count=1_000_000 if row.values["count"] != 1_000_000 else 0)
    value, line = as_text(other.envelope()), as_text(other.values)
    return Bad(row.key, "other content", "conflicting_duplicate", value, (), line)
