"""A subject's erasure: what it covers, and when all of that can be reached."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True)
class Order:
    """Somebody's wish to have a subject's rows of a stream erased."""

    id: UUID
    stream: str
    subject: str
    """Its pseudonym."""
    actor: str
    because: str
    through: Mapping[int, int]
    """Partition to the offset its log ended at when it was asked: rows before it are meant."""

    def is_due(self, stored: Mapping[int, int]) -> bool:
        """Tell whether all that was sent before it has been judged, given the next offsets."""
        return all(stored.get(partition, 0) >= end for partition, end in self.through.items())


@dataclass(frozen=True, slots=True)
class Erasure:
    """An order and what it came to."""

    seq: int
    id: UUID
    stream: str
    subject: str
    actor: str
    because: str
    asked_at: datetime
    done_at: datetime | None
    """None while it goes on."""
    rows: int
    """Rows that are gone from the table and from all its versions."""
    parked: int
    """Refused rows whose bytes are gone."""
    versions: tuple[int, ...]
    """Announced versions that held such rows, and hold less than they pinned now."""


@dataclass(frozen=True, slots=True)
class Traces:
    """Where in a table's files an erasure's rows lay."""

    places: frozenset[tuple[int, int, int]]
    """(partition, offset, index within the record)."""
    files: Mapping[str, tuple[int, int] | None]
    """File to the first version it is of and the first it is not; None: it is of none."""
