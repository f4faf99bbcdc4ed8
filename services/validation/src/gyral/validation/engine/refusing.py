"""Records and rows that are no rows of the lake, as quarantine keeps them; and markers."""

from dataclasses import dataclass, replace

from pydantic import ValidationError

from gyral.contracts.data import WatermarkAdvanced
from gyral.kit import cloudevents
from gyral.kit.cloudevents import MalformedEvent, Record
from gyral.kit.dataplane import is_marker
from gyral.validation.domain.accounting import Marked, Place, Quarantined
from gyral.validation.domain.refusals import Reason, Violation, printable
from gyral.validation.engine.many import alone
from gyral.validation.engine.schema import micros

ORIGIN = "gyral-quarantine"
"""Header of what is judged again: the quarantine row that it comes from."""
_KEPT = {"traceparent", "ce_source", "ce_specversion", "ce_time", ORIGIN}
"""Headers of a batch that a row of it keeps as a record of its own."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a row is called by."""

    stream: str
    record_key: str
    schema_version: int


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


def refuse_row(
    record: Record,
    violation: Violation,
    values: bytes,
    *,
    row: int,
    envelope: Named,
    vouched: bool = False,
) -> Quarantined:
    """Return a row of a batch as quarantine keeps it: as the record of its own it could be."""
    value = alone(envelope.stream, envelope.schema_version, envelope.record_key, values)
    return Quarantined(
        place=replace(place_of(record), row=row),
        violation=violation,
        kafka_key=envelope.record_key.encode(),
        value=value,
        headers=(
            ("content-type", b"application/json"),
            *((name, text) for name, text in record.headers if name in _KEPT and text),
        ),
        stream=envelope.stream,
        record_key=printable(envelope.record_key, 256),
        schema_version=envelope.schema_version,
        vouched=vouched,
    )


def refuse(
    record: Record,
    violation: Violation,
    *,
    stream: str = "",
    record_key: str = "",
    schema_version: int | None = None,
    vouched: bool = False,
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
        vouched=vouched,
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
