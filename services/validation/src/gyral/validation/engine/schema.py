"""A stream's declaration, compiled: what its records and the columns of its table are."""

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import repeat
from math import ceil, floor
from operator import attrgetter, sub
from re import error as re_error
from typing import Annotated, Literal

import msgspec
import numpy as np
import pyarrow as pa
from msgspec import Meta

from gyral.contracts.data import RecordSubmitted, StreamDeclared
from gyral.contracts.specs.document import duration_seconds
from gyral.contracts.specs.fields import FieldType, StreamField
from gyral.kit.personal import PSEUDONYM
from gyral.modelling.columns import Ints
from gyral.modelling.contents import Halves
from gyral.modelling.contents import digests_of as _digests
from gyral.validation.domain.expectations import expected_of
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
BAD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What decoding raises for bytes that are not what they should be."""
_NUL = b"\\u0000"
MAX_KEY_CHARS = 256
Version = Annotated[int, Meta(ge=1, le=2**31 - 1)]
_FIXMAP, _MAP_16, _FIXED = 0x80, 0xDE, 16
"""MessagePack's headers of maps, and how many fields are too many for the short one."""
_encode = msgspec.msgpack.Encoder().encode


class UnusableSchemaError(ValueError):
    """A declaration that cannot be applied, such as a pattern that is no regular expression."""


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
        kept = body.retention
        self.retention_us = None if kept is None else round(duration_seconds(kept) * 1e6)
        self.fields = body.fields
        self.subject = body.subject
        self.expected = expected_of(body, declared.generation)
        # Sorted, and defaults left out: adding an optional field changes no row's digest.
        names = sorted(body.fields)
        try:
            self.row = msgspec.defstruct(
                "Row",
                [_member(name, body.fields[name]) for name in names],
                forbid_unknown_fields=True,
                omit_defaults=True,
                kw_only=True,
                gc=False,
            )
            self.envelope = envelope_of(declared.name, self.row)
            self._decode = msgspec.json.Decoder(self.row).decode
        except (TypeError, ValueError, msgspec.MsgspecError, re_error) as error:
            raise UnusableSchemaError(f"{declared.name}: {error}") from error
        none = np.empty(0, dtype=np.int64)
        self.columns = self.table([], none, none, none).schema
        """The columns of the lake and their types."""

    def decode(self, raw: bytes) -> msgspec.Struct | Violation:
        """Return a row, or the first thing wrong with it."""
        if holds_nul(raw):
            return Violation(
                Reason.FORBIDDEN_CHARACTER, "values: expected text without NUL; found NUL"
            )
        try:
            row: msgspec.Struct = self._decode(raw)
        except BAD as error:
            return explain(raw, self.fields, printable(str(error)))
        return row

    def decoded(self, lines: Sequence[bytes]) -> list[msgspec.Struct] | None:
        """Return the rows of lines that show no NUL, or None if any is none."""
        try:
            return list(map(self._decode, lines))
        except BAD:
            return None

    def untimely(self, row: msgspec.Struct) -> Violation | None:
        """Return the refusal of a row with a time that is none in UTC, in year 1 or 9999."""
        for name, field in self.fields.items():
            time = getattr(row, name)
            if field.type is not FieldType.TIMESTAMP or time is None:
                continue
            try:
                time.astimezone(UTC)
            except OverflowError:
                expected = "a time of the years 1 to 9999 in UTC"
                return violation(Reason.TIMESTAMP, name, expected, time.isoformat())
        return None

    def keys(self, rows: Sequence[msgspec.Struct]) -> list[str]:
        """Return the rows' keys."""
        return list(map(attrgetter(self.key), rows))

    def contents(self, rows: Sequence[msgspec.Struct]) -> Halves:
        """Return what tells one content from another, however it was written, shape (rows, 2).

        Raises:
            OverflowError: a row has a time that is none in UTC.
        """
        texts = map(_encode, rows)
        return _digests(texts if len(self.fields) < _FIXED else map(_short, texts))

    def key_in(self, raw: bytes) -> str:
        """Return the key of a row that may not be sound otherwise, or nothing."""
        return printable(text_in(raw, self.key) or "", MAX_KEY_CHARS)

    def table(
        self, rows: Sequence[msgspec.Struct], partitions: Ints, offsets: Ints, indices: Ints
    ) -> pa.Table:
        """Return rows as the lake keeps them: their fields and where in Kafka they lie.

        Args:
            rows: n decoded rows.
            partitions: of their records, shape (n,).
            offsets: of their records, shape (n,).
            indices: their places within their records, shape (n,).
        """
        columns = {name: self._column(name, rows) for name in self.fields}
        columns["_topic"] = pa.repeat(RecordSubmitted.topic.name, len(rows))
        columns["_partition"] = pa.array(partitions, pa.int32())
        columns["_offset"] = pa.array(offsets, pa.int64())
        columns["_row"] = pa.array(indices, pa.int32())
        return pa.table(columns)

    def times_us(self, table: pa.Table) -> Ints:
        """Return the event times in microseconds UTC, negative before 1970; shape (rows,)."""
        times: Ints = table.column(self.event_time).cast(pa.int64()).to_numpy()
        return times

    def _column(self, name: str, rows: Sequence[msgspec.Struct]) -> pa.Array:
        field = self.fields[name]
        cells = map(attrgetter(name), rows)
        if field.type is FieldType.TIMESTAMP and not field.nullable:
            # Arrow asks each time for its zone: four times the work of subtracting.
            since = list(map(sub, cells, repeat(_EPOCH)))
            return pa.array(since, pa.duration("us")).view(_ARROW[field.type])
        if field.type is FieldType.NUMBER and not field.nullable:
            return pa.array(np.fromiter(cells, np.float64, len(rows)))
        return pa.array(list(cells), _ARROW[field.type])

    def plain(self, name: str, rows: Sequence[msgspec.Struct]) -> list[object]:
        """Return one field of all rows as JSON values."""
        values = list(map(attrgetter(name), rows))
        if self.fields[name].type is FieldType.TIMESTAMP:
            return [None if value is None else value.isoformat() for value in values]
        return values


def is_key(key: str) -> bool:
    """Tell whether a text can name a record."""
    return 0 < len(key) <= MAX_KEY_CHARS and "\0" not in key


def text_in(raw: bytes, name: str) -> str | None:
    """Return the text of a field in a row that may not be sound otherwise, or None."""
    try:
        values = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
        text: str = msgspec.json.decode(values.get(name, msgspec.Raw(b"null")), type=str)
    except BAD:
        return None
    return text


def _short(text: bytes) -> bytes:
    """Return a MessagePack map with the shortest header for its fields, as others write it.

    msgspec takes a longer one for a struct of more than 15 fields, few as may be set.
    """
    if text[0] == _MAP_16 and text[1] == 0 and text[2] < _FIXED:
        return bytes((_FIXMAP | text[2],)) + text[3:]
    return text


def digests_of(keys: Sequence[bytes]) -> Halves:
    """Return what stands for keys in memory; shape (keys, 2).

    Who finds two keys of one digest can block the other row, as they could with its own key.
    """
    return _digests(keys)


def micros(time: datetime) -> int:
    """Return a time in microseconds since 1970 UTC, exactly."""
    delta = time - _EPOCH
    return (delta.days * 86_400 + delta.seconds) * 1_000_000 + delta.microseconds


def explain(raw: bytes, fields: dict[str, StreamField], fallback: str) -> Violation:
    """Return the first thing wrong with a row, fields in their declared order."""
    try:
        values = msgspec.json.decode(raw, type=dict[str, msgspec.Raw])
    except BAD:
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
    except BAD:
        return violation(Reason.TYPE, name, f"a {declared.type}", _loose(raw))
    try:
        msgspec.json.decode(raw, type=_type_of(declared))
    except BAD:
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


def envelope_of(stream: str, values: object) -> type[msgspec.Struct]:
    """Return what a submitted record of one stream is, told from others' by its name."""
    return msgspec.defstruct(
        "Envelope",
        [
            ("record_key", Annotated[str, Meta(min_length=1, max_length=MAX_KEY_CHARS)]),
            ("values", values),
            ("schema_version", Version, 1),
        ],
        tag_field="stream",
        tag=stream,
        gc=False,
    )


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
            pattern = PSEUDONYM if declared.personal else declared.pattern
            longest = None if declared.personal else declared.max_length
            return Annotated[str, Meta(max_length=longest, pattern=pattern)]
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
    except BAD:
        return "what is no JSON value of any type"
    return found


def may_hold_nul(raw: bytes) -> bool:
    """Tell JSON that shows a NUL, escaped or as text; most shows no escape at all."""
    return b"\\" in raw and _NUL in raw


def holds_nul(raw: bytes) -> bool:
    """Tell a NUL from text that merely shows how one is escaped."""
    at = raw.find(_NUL)
    while at >= 0:
        before = at
        while before > 0 and raw[before - 1] == 0x5C:  # noqa: PLR2004 - a backslash
            before -= 1
        if (at - before) % 2 == 0:
            return True
        at = raw.find(_NUL, at + 1)
    return False
