"""A batch of raw records, sorted: rows by stream, markers, and what is neither."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain
from operator import attrgetter

import msgspec
import numpy as np
from pydantic import ValidationError

from gyral.contracts.data import WatermarkAdvanced
from gyral.kit import cloudevents
from gyral.kit.cloudevents import MalformedEvent, Record
from gyral.kit.dataplane import Slice, is_marker
from gyral.modelling.columns import Ints
from gyral.validation.domain.accounting import Marked, Place, Quarantined
from gyral.validation.domain.refusals import Reason, Violation, printable, shown, violation
from gyral.validation.engine.lake import Span
from gyral.validation.engine.schema import (
    BAD,
    MAX_KEY_CHARS,
    Schema,
    micros,
)
from gyral.validation.engine.schemas import Schemas


class Envelope(msgspec.Struct, gc=False):
    """A submitted record of whatever stream, its values not yet decoded."""

    stream: str
    record_key: str
    values: msgspec.Raw
    schema_version: int = 1


@dataclass
class Group:
    """Decoded rows of one stream, aligned, in the order of their partitions."""

    schema: Schema
    records: list[Record] = field(default_factory=list)
    envelopes: list[msgspec.Struct] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.records)

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
        return refuse(
            self.records[at],
            violation,
            stream=self.schema.stream,
            record_key=self.keys[at],
            schema_version=int(self.versions[at]),
        )


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


def payload(record: Record) -> bytes:
    """Return a record's data, in whichever mode of CloudEvents it came.

    Raises:
        MalformedEvent: it says it is structured and is not.
    """
    for name, value in record.headers:
        if (
            name.lower() == "content-type"
            and value is not None
            and b"cloudevents" in value.lower()
        ):
            return cloudevents.read(record).data
    return record.value or b""


def place_of(record: Record) -> Place:
    """Return where a record lies."""
    return Place(record.topic, record.partition, record.offset)


def refuse(
    record: Record,
    violation: Violation,
    *,
    stream: str = "",
    record_key: str = "",
    schema_version: int | None = None,
) -> Quarantined:
    """Return a record as quarantine keeps it: its bytes, and texts any store can hold."""
    version = (
        schema_version if schema_version is not None and 0 < schema_version < 2**31 else None
    )
    return Quarantined(
        place=place_of(record),
        violation=violation,
        kafka_key=record.key,
        value=record.value or b"",
        headers=tuple(
            (name, value)
            for name, value in record.headers
            if value is not None and name.isprintable()
        ),
        stream=printable(stream, 256),
        record_key=printable(record_key, 256),
        schema_version=version,
    )


def marker_of(record: Record) -> Marked | Quarantined | None:
    """Return the marker a record is, its refusal when it is a broken one, or None for data."""
    if not is_marker(record):
        return None
    try:
        event = WatermarkAdvanced.model_validate_json(payload(record))
    except (ValidationError, MalformedEvent) as error:
        detail = (
            cloudevents.explain(error) if isinstance(error, ValidationError) else str(error)
        )
        return refuse(record, Violation(Reason.MALFORMED, printable(f"marker: {detail}")))
    return Marked(place_of(record), event.subject, micros(event.event_time))


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
            group.records.append(record)
            group.envelopes.append(envelope)
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
            self._row(record)

    def _row(self, record: Record) -> None:
        try:
            envelope = _loose(payload(record))
        except (*BAD, MalformedEvent) as error:
            wrong = Violation(Reason.MALFORMED, printable(str(error)))
            self.found.refused.append(refuse(record, wrong))
            return
        schema = self.schemas.get(envelope.stream)
        decoded = self._decoded(envelope, schema)
        if isinstance(decoded, Violation):
            self.found.refused.append(
                refuse(
                    record,
                    decoded,
                    stream=envelope.stream,
                    record_key=envelope.record_key,
                    schema_version=envelope.schema_version,
                )
            )
            return
        assert isinstance(schema, Schema)  # noqa: S101 - it decoded the row
        known = schema.envelope(
            record_key=envelope.record_key,
            values=decoded,
            schema_version=envelope.schema_version,
        )
        group = self.found.group(schema)
        group.records.append(record)
        group.envelopes.append(known)

    def _decoded(
        self, envelope: Envelope, schema: Schema | Violation | None
    ) -> msgspec.Struct | Violation:
        if not 0 < len(envelope.record_key) <= MAX_KEY_CHARS or "\0" in envelope.record_key:
            detail = f"record_key: expected 1 to {MAX_KEY_CHARS} characters without NUL"
            return Violation(Reason.MALFORMED, detail)
        if schema is None:
            self.found.stale = True
            return _unknown("stream", envelope.stream)
        if isinstance(schema, Violation):
            return schema
        if envelope.schema_version > schema.generation:
            self.found.stale = True
            return too_new(envelope.schema_version, schema)
        return schema.decode(bytes(envelope.values))

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


def too_new(version: int, schema: Schema) -> Violation:
    """Return the refusal of a row whose sender knew a generation that is not declared."""
    expected = f"at most {schema.generation}"
    return violation(Reason.UNKNOWN_SCHEMA_VERSION, "schema_version", expected, version)


def _unknown(field: str, stream: str) -> Violation:
    detail = f"{field}: expected a declared stream; found {shown(stream)}"
    return Violation(Reason.UNKNOWN_STREAM, detail)
