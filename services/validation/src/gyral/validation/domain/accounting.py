"""Where each consumed offset ends that is no row of the lake: none lost, none twice."""

from dataclasses import dataclass

from gyral.validation.domain.refusals import Violation


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A row's place in Kafka."""

    topic: str
    partition: int
    offset: int
    row: int = 0
    """Its index within its record."""


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A refused record, whole, with its reason."""

    place: Place
    violation: Violation
    kafka_key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]
    stream: str = ""
    record_key: str = ""
    schema_version: int | None = None


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A record whose content was accepted before."""

    place: Place
    stream: str
    record_key: str


@dataclass(frozen=True, slots=True)
class Marked:
    """A marker of event time."""

    place: Place
    subject: str
    event_time_us: int
