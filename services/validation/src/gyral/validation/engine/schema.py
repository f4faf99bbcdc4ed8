"""A stream's declaration, compiled: rows are checked in bulk, singly only to find the bad."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import blake2b
from math import ceil, floor
from operator import attrgetter
from re import error as re_error
from typing import Annotated, Literal

import msgspec
import pyarrow as pa
from msgspec import Meta

from gyral.contracts.data import StreamDeclared
from gyral.contracts.specs.document import duration_seconds
from gyral.contracts.specs.stream import FieldType, StreamField
from gyral.validation.domain.refusals import Reason, Violation, printable, violation
from gyral.validation.domain.watermark import StreamTime

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BASE: dict[FieldType, object] = {
    FieldType.STRING: str,
    FieldType.INTEGER: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)],
    FieldType.NUMBER: float,
    FieldType.BOOLEAN: bool,
    FieldType.TIMESTAMP: str,
}
_ARROW: dict[FieldType, pa.DataType] = {
    FieldType.STRING: pa.string(),
    FieldType.INTEGER: pa.int64(),
    FieldType.NUMBER: pa.float64(),
    FieldType.BOOLEAN: pa.bool_(),
    FieldType.TIMESTAMP: pa.timestamp("us", "UTC"),
}
_BAD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
_encode = msgspec.json.Encoder().encode


class UnusableSchemaError(ValueError):
    """A declaration that cannot be applied, such as a pattern that is no regular expression."""


@dataclass(slots=True)
class Decoded:
    """Rows of one stream, aligned with what they were decoded from."""

    rows: list[msgspec.Struct | None]
    violations: dict[int, Violation] = field(default_factory=dict)


class Schema:
    """What rows of one generation of a stream must look like."""

    def __init__(self, declared: StreamDeclared) -> None:
        body = declared.spec.spec
        self.stream = declared.name
        self.generation = declared.generation
        self.key = body.key
        self.event_time = body.event_time
        lateness_us = round(duration_seconds(body.lateness) * 1e6)
        self.time = StreamTime(declared.name, body.clock, lateness_us)
        self.dedupe_us = round(duration_seconds(body.dedupe) * 1e6)
        self.fields = body.fields
        # Sorted, and defaults left out: adding an optional field changes no row's digest.
        names = sorted(body.fields)
        try:
            row = msgspec.defstruct(
                "Row",
                [_member(name, body.fields[name]) for name in names],
                forbid_unknown_fields=True,
                omit_defaults=True,
                kw_only=True,
                gc=False,
            )
            self._decoder = msgspec.json.Decoder(row)
            self._many = msgspec.json.Decoder(list[row])  # type: ignore[valid-type]
        except (TypeError, ValueError, msgspec.MsgspecError, re_error) as error:
            raise UnusableSchemaError(f"{declared.name}: {error}") from error
        self._get_key = attrgetter(self.key)
        self._get_time = attrgetter(self.event_time)
        self.columns = self.table([], [], []).schema
        """The columns of the lake and their types."""

    def decode(self, raws: Sequence[msgspec.Raw]) -> Decoded:
        """Return all rows; those that do not fit are None and have a violation."""
        joined = b"[" + b",".join(raws) + b"]"
        if b"\\u0000" not in joined:
            try:
                rows = self._many.decode(joined)
            except _BAD:
                pass
            else:
                if len(rows) == len(raws):
                    return Decoded(rows)
        return self._one_by_one(raws)

    def _one_by_one(self, raws: Sequence[msgspec.Raw]) -> Decoded:
        decoded = Decoded([])
        for at, raw in enumerate(raws):
            found = self._decode_one(bytes(raw))
            if isinstance(found, Violation):
                decoded.violations[at] = found
                decoded.rows.append(None)
            else:
                decoded.rows.append(found)
        return decoded

    def _decode_one(self, raw: bytes) -> msgspec.Struct | Violation:
        if b"\\u0000" in raw and _holds_nul(raw):
            return Violation(
                Reason.FORBIDDEN_CHARACTER, "values: expected text without NUL; found NUL"
            )
        try:
            row: msgspec.Struct = self._decoder.decode(raw)
        except _BAD as error:
            return explain(raw, self.fields, printable(str(error)))
        return row

    def key_of(self, row: msgspec.Struct) -> str:
        """Return a row's key."""
        key: str = self._get_key(row)
        return key

    def event_time_us(self, row: msgspec.Struct) -> int:
        """Return a row's event time in microseconds UTC; negative before 1970."""
        return micros(self._get_time(row))

    def table(
        self, rows: Sequence[msgspec.Struct], partitions: Sequence[int], offsets: Sequence[int]
    ) -> pa.Table:
        """Return rows as the lake keeps them: their fields and where in Kafka they lie."""
        columns = {name: self._column(name, rows) for name in self.fields}
        columns["_topic"] = pa.array(["data.record.submitted.v1"] * len(rows), pa.string())
        columns["_partition"] = pa.array(partitions, pa.int32())
        columns["_offset"] = pa.array(offsets, pa.int64())
        return pa.table(columns)

    def _column(self, name: str, rows: Sequence[msgspec.Struct]) -> pa.Array:
        kind = self.fields[name].type
        values = list(map(attrgetter(name), rows))
        if kind is FieldType.TIMESTAMP:
            times = [None if value is None else micros(value) for value in values]
            return pa.array(times, pa.int64()).cast(_ARROW[kind])
        return pa.array(values, _ARROW[kind])

    def plain(self, name: str, rows: Sequence[msgspec.Struct]) -> list[object]:
        """Return one field of all rows as JSON values."""
        values = list(map(attrgetter(name), rows))
        if self.fields[name].type is FieldType.TIMESTAMP:
            return [None if value is None else value.isoformat() for value in values]
        return values


def digest(row: msgspec.Struct) -> bytes:
    """Return what tells one content from another, however its JSON was laid out."""
    return blake2b(_encode(row), digest_size=16).digest()


def micros(time: datetime) -> int:
    """Return a time in microseconds since 1970 UTC, exactly."""
    delta = time - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def explain(raw: bytes, fields: dict[str, StreamField], fallback: str) -> Violation:
    """Return the first thing wrong with a row, fields in their declared order."""
    try:
        values = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except _BAD:
        return Violation(
            Reason.MALFORMED, f"values: expected an object of fields; found {fallback}"
        )
    for name, declared in fields.items():
        wrong = _wrong(name, declared, values.get(name))
        if wrong is not None:
            return wrong
    unknown = sorted(set(values) - set(fields))
    if unknown:
        return violation(
            Reason.UNKNOWN_FIELD, "values", f"only declared fields ({len(fields)})", unknown[0]
        )
    return Violation(Reason.MALFORMED, f"values: {fallback}")


def _wrong(name: str, declared: StreamField, raw: msgspec.Raw | None) -> Violation | None:
    if raw is None or bytes(raw).strip() == b"null":
        if declared.nullable:
            return None
        return violation(Reason.REQUIRED, name, f"a {declared.type}", None)
    try:
        value = msgspec.json.decode(raw, type=_BASE[declared.type])
    except _BAD:
        return violation(Reason.TYPE, name, f"a {declared.type}", _loose(raw))
    try:
        msgspec.json.decode(raw, type=_type_of(declared))
    except _BAD:
        return _broken_limit(name, declared, value)
    return None


def _broken_limit(name: str, declared: StreamField, value: object) -> Violation:
    if declared.type is FieldType.TIMESTAMP:
        return violation(Reason.TIMESTAMP, name, "an RFC 3339 time with an offset", value)
    if isinstance(value, int | float):
        limits = f"a value from {declared.minimum} to {declared.maximum}"
        return violation(Reason.RANGE, name, limits, value)
    if declared.allowed is not None:
        return violation(
            Reason.ALLOWED, name, f"one of {len(declared.allowed)} allowed values", value
        )
    if isinstance(value, str) and len(value) > declared.max_length:
        found = f"{len(value)} characters"
        return violation(
            Reason.MAX_LENGTH, name, f"at most {declared.max_length} characters", found
        )
    return violation(Reason.PATTERN, name, f"text that matches {declared.pattern}", value)


def _member(
    name: str, declared: StreamField
) -> tuple[str, object] | tuple[str, object, object]:
    kind = _type_of(declared)
    return (name, kind | None, None) if declared.nullable else (name, kind)  # type: ignore[operator]


def _type_of(declared: StreamField) -> object:
    match declared.type:
        case FieldType.STRING if declared.allowed is not None:
            return Literal[declared.allowed]
        case FieldType.STRING:
            return Annotated[
                str, Meta(max_length=declared.max_length, pattern=declared.pattern)
            ]
        case FieldType.INTEGER:
            low, high = declared.minimum, declared.maximum
            least = -(2**63) if low is None else max(-(2**63), ceil(low))
            most = 2**63 - 1 if high is None else min(2**63 - 1, floor(high))
            return Annotated[int, Meta(ge=least, le=most)]
        case FieldType.NUMBER:
            return Annotated[float, Meta(ge=declared.minimum, le=declared.maximum)]
        case FieldType.BOOLEAN:
            return bool
        case FieldType.TIMESTAMP:
            return Annotated[datetime, Meta(tz=True)]


def _loose(raw: msgspec.Raw) -> object:
    try:
        found: object = msgspec.json.decode(raw)
    except _BAD:
        return "what is no JSON value of any type"
    return found


def _holds_nul(raw: bytes) -> bool:
    """Tell a NUL from text that merely shows how one is escaped."""
    at = raw.find(b"\\u0000")
    while at >= 0:
        before = at
        while before > 0 and raw[before - 1] == 0x5C:  # noqa: PLR2004 - a backslash
            before -= 1
        if (at - before) % 2 == 0:
            return True
        at = raw.find(b"\\u0000", at + 1)
    return False
