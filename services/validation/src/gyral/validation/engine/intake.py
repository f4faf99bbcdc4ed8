"""A batch of raw records, sorted: rows by stream, markers, and what is neither."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec
from pydantic import ValidationError

from gyral.contracts.data import WatermarkAdvanced
from gyral.kit import cloudevents
from gyral.kit.cloudevents import MalformedEvent, Record
from gyral.kit.dataplane import Slice, is_marker
from gyral.validation.domain.accounting import Marked, Place, Quarantined
from gyral.validation.domain.refusals import Reason, Violation, printable
from gyral.validation.engine.schema import micros

MAX_KEY_CHARS = 256


class Envelope(msgspec.Struct, gc=False):
    """A submitted record, its values not yet decoded."""

    stream: str
    record_key: str
    values: msgspec.Raw
    schema_version: int = 1


@dataclass(slots=True)
class Group:
    """Rows of one stream, in the order of their partitions."""

    records: list[Record] = field(default_factory=list)
    envelopes: list[Envelope] = field(default_factory=list)

    @property
    def raws(self) -> list[msgspec.Raw]:
        """The values, still encoded."""
        return [envelope.values for envelope in self.envelopes]

    def __len__(self) -> int:
        return len(self.records)


@dataclass(slots=True)
class Sorted:
    """What a batch holds."""

    groups: dict[str, Group] = field(default_factory=dict)
    markers: list[Marked] = field(default_factory=list)
    refused: list[Quarantined] = field(default_factory=list)


_decode = msgspec.json.Decoder(Envelope).decode
_BAD = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


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


def sort(slices: Sequence[Slice]) -> Sorted:
    """Take a batch apart; whatever its bytes are, each record ends in exactly one place."""
    found = Sorted()
    for part in slices:
        for record in part.records:
            _place(record, found)
    return found


def _place(record: Record, found: Sorted) -> None:
    marker = marker_of(record)
    if isinstance(marker, Marked):
        found.markers.append(marker)
        return
    if marker is not None:
        found.refused.append(marker)
        return
    try:
        envelope = _decode(payload(record))
    except (*_BAD, MalformedEvent) as error:
        found.refused.append(refuse(record, Violation(Reason.MALFORMED, printable(str(error)))))
        return
    if not 0 < len(envelope.record_key) <= MAX_KEY_CHARS or "\0" in envelope.record_key:
        detail = f"record_key: expected 1 to {MAX_KEY_CHARS} characters without NUL"
        wrong = Violation(Reason.MALFORMED, detail)
        found.refused.append(refuse(record, wrong, stream=envelope.stream))
        return
    group = found.groups.get(envelope.stream)
    if group is None:
        group = found.groups[envelope.stream] = Group()
    group.records.append(record)
    group.envelopes.append(envelope)
