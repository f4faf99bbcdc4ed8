"""Where each consumed offset ends that is no row of the lake: none lost, none twice."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
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
class Repeated:
    """Repeated rows that lie in a rectangle: of each of these offsets, these rows."""

    topic: str
    partition: int
    offsets: tuple[int, int]
    """The first and the last."""
    rows: tuple[int, int]
    """The first and the last of each offset."""
    stream: str


def repeated(rows: Iterable[Duplicate]) -> list[Repeated]:
    """Return rows that were accepted before as few rectangles, each row in one of them."""
    found: list[Repeated] = []
    for one in _runs(rows):
        last = found[-1] if found else None
        if (
            last is not None
            and (last.topic, last.partition, last.stream, last.rows)
            == (one.topic, one.partition, one.stream, one.rows)
            and last.offsets[1] + 1 == one.offsets[0]
        ):
            found[-1] = replace(last, offsets=(last.offsets[0], one.offsets[1]))
        else:
            found.append(one)
    return found


def _runs(rows: Iterable[Duplicate]) -> Iterator[Repeated]:
    """Yield consecutive rows of one record as one, in the order of places."""
    run: Repeated | None = None
    for one in sorted(rows, key=lambda row: (row.stream, row.place)):
        at = one.place
        begun = Repeated(
            at.topic, at.partition, (at.offset, at.offset), (at.row, at.row), one.stream
        )
        if run is None:
            run = begun
        elif replace(run, rows=begun.rows) == begun and run.rows[1] + 1 == at.row:
            run = replace(run, rows=(run.rows[0], at.row))
        else:
            yield run
            run = begun
    if run is not None:
        yield run


@dataclass(frozen=True, slots=True)
class Marked:
    """A marker of event time."""

    place: Place
    subject: str
    event_time_us: int
