"""Raw records, sorted: rows by stream, markers, and what is neither."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import repeat

import msgspec

from gyral.contracts.batches import BatchSubmitted
from gyral.kit.cloudevents import MalformedEvent, Record
from gyral.validation.domain.accounting import Marked, Quarantined
from gyral.validation.domain.refusals import Reason, Violation, printable, shown
from gyral.validation.engine.groups import Group, too_new
from gyral.validation.engine.many import described, is_batch, lines_of, raw_rows_of, rows_of
from gyral.validation.engine.refusing import Named, marker_of, payload, refuse, refuse_row
from gyral.validation.engine.schema import (
    BAD,
    MAX_KEY_CHARS,
    Schema,
    Version,
    is_key,
    may_hold_nul,
    text_in,
)
from gyral.validation.engine.schemas import Schemas


class Envelope(msgspec.Struct, gc=False):
    """A submitted record of whatever stream, its values not yet decoded."""

    stream: str
    record_key: str
    values: msgspec.Raw
    schema_version: Version = 1


@dataclass(slots=True)
class Sorted:
    """What records hold."""

    groups: dict[str, Group] = field(default_factory=dict)
    marked: list[tuple[Record, Marked]] = field(default_factory=list)
    """The markers of declared streams, whatever their times."""
    refused: list[Quarantined] = field(default_factory=list)
    stale: bool = False
    """Something speaks of a stream or generation that is not known here yet."""

    def group(self, schema: Schema) -> Group:
        """Return the rows of a stream."""
        found = self.groups.get(schema.stream)
        if found is None:
            found = self.groups[schema.stream] = Group(schema)
        return found

    def taken(self, *, at_least: int) -> list[tuple[str, Group]]:
        """Take out the groups of so many rows."""
        taken = [(name, group) for name, group in self.groups.items() if len(group) >= at_least]
        for name, group in taken:
            del self.groups[name]
            self.stale |= bool((group.versions > group.schema.generation).any())
        return taken

    def markers(self, latest_us: int) -> tuple[list[Marked], list[Quarantined]]:
        """Return the markers that count if this is the latest time, and the others refused."""
        kept, refused = [], []
        wrong = Violation(Reason.FUTURE, f"event_time: expected at most {latest_us} (us)")
        for record, marker in self.marked:
            if 0 <= marker.event_time_us <= latest_us:
                kept.append(marker)
            else:
                refused.append(refuse(record, wrong, stream=marker.subject))
        return kept, refused


class Sorting:
    """Takes records apart by what is declared when it begins, each into just one place."""

    def __init__(self, schemas: Schemas) -> None:
        self.found = Sorted()
        self.declared = schemas.declared()
        self._decode, self._owners = schemas.decoder()
        self._odd = _Odd(self.found, schemas, self.declared)

    def take(self, records: Sequence[Record]) -> None:
        """Sort records, whatever their bytes are."""
        values = [record.value or b"" for record in records]
        envelopes = self._decoded(values)
        kinds = set(map(type, envelopes))
        owner = self._owners.get(kinds.pop()) if len(kinds) == 1 else None
        if owner is not None and not may_hold_nul(b"".join(values)):
            self.found.group(owner).extend(records, envelopes, [0] * len(records))
            return
        for record, value, envelope in zip(records, values, envelopes, strict=True):
            owner = self._owners.get(type(envelope))
            if owner is None or may_hold_nul(value):
                self._odd.place(record)
            else:
                self.found.group(owner).add(record, envelope, 0)

    def _decoded(self, values: Sequence[bytes]) -> list[msgspec.Struct]:
        """Return what each value is; what is no row of a declared stream gives `_NO_ROW`."""
        decode, left = self._decode, iter(values)
        found: list[msgspec.Struct] = []
        while len(found) < len(values):
            try:
                # What was decoded before the exception stays; `left` goes on behind its cause.
                found.extend(map(decode, left))
            except BAD:
                found.append(_NO_ROW)
        return found


_NO_ROW = msgspec.Struct()
_loose = msgspec.json.Decoder(Envelope).decode


@dataclass(frozen=True, slots=True)
class _Odd:
    """Whatever is not plainly a row of a declared stream, looked at one by one."""

    found: Sorted
    schemas: Schemas
    """Who has personal fields, and the door's keys: neither ever changes for a stream."""
    declared: Mapping[str, Schema | Violation]

    def place(self, record: Record) -> None:
        """Find out what a record is and file it."""
        marker = marker_of(record)
        if isinstance(marker, Marked):
            self._mark(record, marker)
        elif marker is not None:
            self.found.refused.append(marker)
        else:
            try:
                if is_batch(record):
                    self._rows(record)
                else:
                    self._row(record)
            except (*BAD, MalformedEvent) as error:
                wrong = Violation(Reason.MALFORMED, printable(str(error)))
                self.found.refused.append(refuse(record, wrong, stream=self._named(record)))

    def _named(self, record: Record) -> str:
        """Return the stream of a malformed record where it says one with personal fields."""
        batch = dict(record.headers).get("ce_stream") or b""
        told = batch.decode("utf-8", "replace") or text_in(record.value or b"", "stream") or ""
        return told if self.schemas.personal(told) is not None else ""

    def _rows(self, record: Record) -> None:
        batch = described(record)
        schema = self.schemas.unvouched(batch.stream, record) or self._schema(
            batch.stream, batch.schemaversion
        )
        body = self.schemas.personal(batch.stream)
        if isinstance(schema, Violation):
            if body is None or schema.reason is Reason.NOT_PSEUDONYMISED:
                version = batch.schemaversion
                self.found.refused.append(
                    refuse(record, schema, stream=batch.stream, schema_version=version)
                )
            else:
                self._refuse_each(record, batch, schema, key=body.key)
            return
        good = lines_of(batch, record.value or b"", schema)
        if good is not None:
            self._add_lines(record, batch, schema, good)
            return
        for row, (decoded, raw) in enumerate(rows_of(batch, record.value or b"", schema)):
            key = (
                schema.key_in(raw)
                if isinstance(decoded, Violation)
                else schema.keys([decoded])[0]
            )
            wrong = decoded if isinstance(decoded, Violation) else _bad_key(key)
            if wrong is not None:
                named = Named(batch.stream, key, batch.schemaversion)
                self.found.refused.append(
                    refuse_row(
                        record, wrong, raw, row=row, envelope=named, vouched=body is not None
                    )
                )
            elif isinstance(decoded, msgspec.Struct):
                envelope = schema.envelope(
                    record_key=key, values=decoded, schema_version=batch.schemaversion
                )
                self.found.group(schema).add(record, envelope, row)

    def _add_lines(
        self, record: Record, batch: BatchSubmitted, schema: Schema, rows: list[msgspec.Struct]
    ) -> None:
        count = len(rows)
        keys, versions = schema.keys(rows), repeat(batch.schemaversion)
        self.found.group(schema).extend(
            [record] * count,
            list(map(schema.envelope, keys, rows, versions)),
            range(count),
        )

    def _refuse_each(
        self, record: Record, batch: BatchSubmitted, wrong: Violation, *, key: str
    ) -> None:
        """Refuse rows of people one by one, so that each can be erased without the others."""
        for row, raw in enumerate(raw_rows_of(batch, record.value or b"")):
            named = Named(batch.stream, text_in(raw, key) or "", batch.schemaversion)
            self.found.refused.append(
                refuse_row(record, wrong, raw, row=row, envelope=named, vouched=True)
            )

    def _row(self, record: Record) -> None:
        envelope = _loose(payload(record))
        wrong = self.schemas.unvouched(envelope.stream, record)
        if wrong is not None:
            self.found.refused.append(refuse(record, wrong, stream=envelope.stream))
            return
        schema = self._schema(envelope.stream, envelope.schema_version)
        decoded = _bad_key(envelope.record_key) or (
            schema if isinstance(schema, Violation) else schema.decode(bytes(envelope.values))
        )
        if isinstance(decoded, Violation):
            self.found.refused.append(
                refuse(
                    record,
                    decoded,
                    stream=envelope.stream,
                    record_key=envelope.record_key,
                    schema_version=envelope.schema_version,
                    vouched=self.schemas.personal(envelope.stream) is not None,
                )
            )
            return
        assert isinstance(schema, Schema)  # noqa: S101 - it decoded the row
        known = schema.envelope(
            record_key=envelope.record_key,
            values=decoded,
            schema_version=envelope.schema_version,
        )
        self.found.group(schema).add(record, known, 0)

    def _schema(self, stream: str, version: int) -> Schema | Violation:
        """Return what a row is to be read by, or why it cannot be."""
        schema = self.declared.get(stream)
        if schema is None:
            self.found.stale = True
            return _unknown("stream", stream)
        if isinstance(schema, Schema) and version > schema.generation:
            self.found.stale = True
            return too_new(version, schema)
        return schema

    def _mark(self, record: Record, marker: Marked) -> None:
        """Keep a marker of a declared stream; the others are refused like rows."""
        schema = self.declared.get(marker.subject)
        if isinstance(schema, Schema):
            self.found.marked.append((record, marker))
            return
        self.found.stale |= schema is None
        wrong = _unknown("subject", marker.subject)
        self.found.refused.append(refuse(record, wrong, stream=marker.subject))


def parked(record: Record, wrong: Violation, schemas: Schemas) -> list[Quarantined]:
    """Return what is kept of a record that is not judged: rows of people one by one.

    Whatever reading it meets, something of it is kept: at worst the whole record, under the
    stream that it claims.
    """
    found = Sorted()
    try:
        _Odd(found, schemas, dict.fromkeys(schemas.names(), wrong)).place(record)
    except Exception:  # noqa: BLE001 - the fault may be met here as well, and what has it is kept
        found = Sorted()
    if not found.refused:
        return [refuse(record, wrong, stream=next(iter(claimed(record)), ""))]
    return [_instead(row, wrong) for row in found.refused]


def _instead(row: Quarantined, wrong: Violation) -> Quarantined:
    """Give a row another reason, unless it is one for which it may never be put back."""
    forbidden = row.violation.reason is Reason.NOT_PSEUDONYMISED
    return row if forbidden else replace(row, violation=wrong)


def claimed(record: Record) -> list[str]:
    """Return the streams that a record may be read as one of, by whichever of its parts."""
    headers = {name.lower(): value or b"" for name, value in record.headers}
    said = [headers.get("ce_stream", b"").decode("utf-8", "replace")]
    said.append(text_in(record.value or b"", "stream") or "")
    with suppress(MalformedEvent):
        said.append(text_in(payload(record), "stream") or "")
    return sorted(set(said) - {""})


def _bad_key(key: str) -> Violation | None:
    if is_key(key):
        return None
    detail = f"record_key: expected 1 to {MAX_KEY_CHARS} characters without NUL"
    return Violation(Reason.MALFORMED, detail)


def _unknown(field: str, stream: str) -> Violation:
    detail = f"{field}: expected a declared stream; found {shown(stream)}"
    return Violation(Reason.UNKNOWN_STREAM, detail)
