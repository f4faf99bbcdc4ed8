"""A batch of raw records, sorted: rows by stream, markers, and what is neither."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from operator import attrgetter

import msgspec
import numpy as np

from gyral.contracts.batches import BatchSubmitted
from gyral.kit.cloudevents import MalformedEvent, Record
from gyral.kit.dataplane import Slice
from gyral.modelling.columns import Ints
from gyral.validation.domain.accounting import Marked, Place, Quarantined
from gyral.validation.domain.refusals import Reason, Violation, printable, shown, violation
from gyral.validation.engine.many import described, is_batch, line_of, raw_rows_of, rows_of
from gyral.validation.engine.reading import Span
from gyral.validation.engine.refusing import Named, marker_of, payload, refuse, refuse_row
from gyral.validation.engine.schema import BAD, MAX_KEY_CHARS, Schema, Version, text_in
from gyral.validation.engine.schemas import Schemas


class Envelope(msgspec.Struct, gc=False):
    """A submitted record of whatever stream, its values not yet decoded."""

    stream: str
    record_key: str
    values: msgspec.Raw
    schema_version: Version = 1


@dataclass
class Group:
    """Decoded rows of one stream, aligned, in the order of their partitions."""

    schema: Schema
    records: list[Record] = field(default_factory=list)
    envelopes: list[msgspec.Struct] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    """Each row's index within its record."""

    def __len__(self) -> int:
        return len(self.records)

    def add(self, record: Record, envelope: msgspec.Struct, row: int) -> None:
        """Append a row, before any column is asked for."""
        self.records.append(record)
        self.envelopes.append(envelope)
        self.row.append(row)

    @cached_property
    def rows(self) -> list[msgspec.Struct]:
        """The values, decoded."""
        return list(map(attrgetter("values"), self.envelopes))

    @cached_property
    def keys(self) -> list[str]:
        """What the records are keyed by."""
        return list(map(attrgetter("record_key"), self.envelopes))

    @cached_property
    def versions(self) -> Ints:
        """The generations their senders knew, shape (rows,)."""
        return _column("schema_version", self.envelopes)

    @cached_property
    def partitions(self) -> Ints:
        """Where the records lie, shape (rows,)."""
        return _column("partition", self.records)

    @cached_property
    def offsets(self) -> Ints:
        """Where in their partitions, shape (rows,)."""
        return _column("offset", self.records)

    @cached_property
    def indices(self) -> Ints:
        """Where in their records, shape (rows,)."""
        return np.array(self.row, dtype=np.int64)

    def without_untimely(self) -> tuple["Group", list[Quarantined]]:
        """Return the rows whose times the lake can hold, and the others refused."""
        kept, refused = Group(self.schema), []
        for at, row in enumerate(self.rows):
            wrong = self.schema.untimely(row)
            if wrong is None:
                kept.add(self.records[at], self.envelopes[at], self.row[at])
            else:
                refused.append(self.refuse(at, wrong))
        return kept, refused

    def place(self, at: int) -> Place:
        """Return where a row lies."""
        record = self.records[at]
        return Place(record.topic, record.partition, record.offset, self.row[at])

    def spans(self) -> list[Span]:
        """Return the offsets these rows cover, by partition."""
        topic = self.records[0].topic
        partitions, offsets = self.partitions, self.offsets
        spans = []
        for partition in np.unique(partitions):
            of_partition = offsets[partitions == partition]
            ends = int(of_partition.min()), int(of_partition.max())
            spans.append(Span(topic, int(partition), *ends))
        return spans

    def refuse(self, at: int, violation: Violation) -> Quarantined:
        """Return a row as quarantine keeps it."""
        record, key, version = self.records[at], self.keys[at], int(self.versions[at])
        if is_batch(record):
            values = line_of(record, self.row[at]) or msgspec.json.encode(self.rows[at])
            named = Named(self.schema.stream, key, version)
            return refuse_row(
                record,
                violation,
                values,
                row=self.row[at],
                envelope=named,
                vouched=self.schema.subject is not None,
            )
        refused = refuse(
            record,
            violation,
            stream=self.schema.stream,
            record_key=key,
            schema_version=version,
            vouched=self.schema.subject is not None,
        )
        if violation.reason is Reason.WRONG_PARTITION:
            return replace(refused, kafka_key=key.encode())
        return refused


def _column(name: str, objects: Sequence[object]) -> Ints:
    return np.fromiter(map(attrgetter(name), objects), np.int64, len(objects))


@dataclass(slots=True)
class Sorted:
    """What a batch holds."""

    groups: dict[str, Group] = field(default_factory=dict)
    markers: list[Marked] = field(default_factory=list)
    refused: list[Quarantined] = field(default_factory=list)
    stale: bool = False
    """Something speaks of a stream or generation that is not known here yet."""

    def group(self, schema: Schema) -> Group:
        """Return the rows of a stream."""
        found = self.groups.get(schema.stream)
        if found is None:
            found = self.groups[schema.stream] = Group(schema)
        return found


def sort(slices: Sequence[Slice], schemas: Schemas, *, latest_us: int) -> Sorted:
    """Take a batch apart; whatever its bytes are, each record ends in exactly one place."""
    decode, owners = schemas.decoder()
    found = Sorted()
    odd = _Odd(found, schemas, latest_us)
    kind, group = None, None
    for record in chain.from_iterable(part.records for part in slices):
        value = record.value or b""
        try:
            envelope = decode(value)
        except BAD:
            odd.place(record)
            continue
        if type(envelope) is not kind:
            kind = type(envelope)
            group = found.group(owners[kind]) if kind in owners else None
        if group is None or b"\\u0000" in value:
            odd.place(record)
        else:
            group.add(record, envelope, 0)
    for group in found.groups.values():
        found.stale |= bool((group.versions > group.schema.generation).any())
    return found


_loose = msgspec.json.Decoder(Envelope).decode


@dataclass(frozen=True, slots=True)
class _Odd:
    """Whatever is not plainly a row of a declared stream, looked at one by one."""

    found: Sorted
    schemas: Schemas
    latest_us: int

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
        schema = self.schemas.get(stream)
        if schema is None:
            self.found.stale = True
            return _unknown("stream", stream)
        if isinstance(schema, Schema) and version > schema.generation:
            self.found.stale = True
            return too_new(version, schema)
        return schema

    def _mark(self, record: Record, marker: Marked) -> None:
        """Keep a marker that counts; the others are refused like rows."""
        schema = self.schemas.get(marker.subject)
        if isinstance(schema, Schema) and 0 <= marker.event_time_us <= self.latest_us:
            self.found.markers.append(marker)
            return
        if isinstance(schema, Schema):
            expected = f"event_time: expected at most {self.latest_us} (us)"
            wrong = Violation(Reason.FUTURE, expected)
        else:
            self.found.stale |= schema is None
            wrong = _unknown("subject", marker.subject)
        self.found.refused.append(refuse(record, wrong, stream=marker.subject))


def _bad_key(key: str) -> Violation | None:
    if 0 < len(key) <= MAX_KEY_CHARS and "\0" not in key:
        return None
    detail = f"record_key: expected 1 to {MAX_KEY_CHARS} characters without NUL"
    return Violation(Reason.MALFORMED, detail)


def too_new(version: int, schema: Schema) -> Violation:
    """Return the refusal of a row whose sender knew a generation that is not declared."""
    expected = f"at most {schema.generation}"
    return violation(Reason.UNKNOWN_SCHEMA_VERSION, "schema_version", expected, version)


def _unknown(field: str, stream: str) -> Violation:
    detail = f"{field}: expected a declared stream; found {shown(stream)}"
    return Violation(Reason.UNKNOWN_STREAM, detail)
