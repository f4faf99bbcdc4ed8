"""Where each consumed offset ends that is no row of the lake: none lost, none twice."""

from dataclasses import dataclass
from enum import StrEnum

from gyral.validation.domain.refusals import Violation


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A row's place in Kafka."""

    topic: str
    partition: int
    offset: int
    row: int = 0
    """Its index within its record."""


class Protection(StrEnum):
    """What may lie in bytes that are kept encrypted."""

    PSEUDONYMISED = "pseudonymised"
    """They came through the door: nobody is named in them."""
    CLEAR = "clear"
    """They did not, and may hold anything."""


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
    vouched: bool = False
    """The door pseudonymised it, as its seal says."""
    protection: Protection | None = None
    """How its bytes are encrypted; None: they are as they came."""
    subject: str | None = None
    """Whose it is, where that is known: a pseudonym."""


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
