"""Whether a row was seen before: the same again, something else under its key, or new."""

from dataclasses import dataclass
from enum import Enum


class Seen(Enum):
    """What memory says of a row."""

    NEW = "new"
    DUPLICATE = "duplicate"
    CONFLICT = "conflict"


@dataclass(frozen=True, slots=True)
class Identity:
    """An accepted row, as far as it is remembered."""

    content: bytes
    event_time_us: int
    revision: int = 0


def recall(known: Identity | None, row: Identity, dedupe_us: int) -> Seen:
    """Compare a row with the accepted one of its key.

    The same content counts as a duplicate for as long as it is remembered. Other content
    conflicts within `dedupe_us` of event time; beyond it the key stands for a new row. So the
    answer depends on the rows and not on when memory was last pruned.
    """
    if known is None:
        return Seen.NEW
    if known.content == row.content:
        return Seen.DUPLICATE
    if abs(row.event_time_us - known.event_time_us) <= dedupe_us:
        return Seen.CONFLICT
    return Seen.NEW
