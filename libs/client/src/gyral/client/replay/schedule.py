"""Which rows, labels and markers go on which day: decided before anything is sent."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gyral.client.errors import ClientError
from gyral.client.replay.moments import text
from gyral.modelling.columns import Ints

_SHORT_US = 31 * 86_400_000_000
NEVER = -1
"""The time of a label that never comes."""


@dataclass(frozen=True, slots=True)
class Day:
    """One block of event time: [start, end)."""

    start_us: int
    end_us: int
    rows: slice
    """Rows that happen in it; rows are in order of time."""
    labels: Ints
    """Rows whose labels are delivered in it: known by its end, and asked about before."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """A replay from its first training to its last day."""

    cutoff_us: int
    """Event time of the first training."""
    rows: slice
    """Rows sent before the first training."""
    labels: Ints
    """Rows whose labels are known at the first training."""
    days: tuple[Day, ...]

    def period_ends(self) -> Mapping[int, str]:
        """Return the last day of each month, counted from 1, with the month's name.

        Of a replay of no more than 31 days every day, with its date.
        """
        short = self.days[-1].end_us - self.days[0].start_us <= _SHORT_US
        letters = len("2013-03-01") if short else len("2013-03")
        return {
            number: text(day.start_us)[:letters]
            for number, day in enumerate(self.days, start=1)
            if short or day is self.days[-1] or text(day.end_us)[:7] != text(day.start_us)[:7]
        }


def plan(
    times_us: Ints,
    known_us: Ints,
    *,
    block_us: int,
    bootstrap_us: int,
    until_us: int | None = None,
) -> Schedule:
    """Lay out a replay.

    Args:
        times_us: event time of each row in µs UTC, ascending, shape (n,).
        known_us: when its label is known, `NEVER` for no label, shape (n,).
        block_us: length of a day, > 0.
        bootstrap_us: from the first block's start to the first training; made whole blocks.
        until_us: where to stop; None for the end of the last row's block.

    Raises:
        ClientError: no row is left to replay.
    """
    if not len(times_us):
        raise ClientError("data: expected rows; found none")
    origin = int(times_us[0]) // block_us * block_us
    cutoff = origin + -(-bootstrap_us // block_us) * block_us
    last = int(times_us[-1]) + 1 if until_us is None else until_us
    count = -(-(last - cutoff) // block_us)
    if count <= 0:
        raise ClientError(
            "--bootstrap: expected some of the file's time to be left after it; found none: "
            "make it shorter"
        )
    edges = cutoff + block_us * np.arange(count + 1, dtype=np.int64)
    starts = np.searchsorted(times_us, edges, side="left")
    day_of_label = _label_days(times_us, known_us, cutoff, block_us)
    order = np.lexsort((np.arange(len(times_us)), known_us, day_of_label))
    first = np.searchsorted(day_of_label[order], np.arange(-1, count + 1), side="left")
    delivered = [order[first[at] : first[at + 1]] for at in range(count + 1)]
    days = tuple(
        Day(
            int(edges[at]),
            int(edges[at + 1]),
            slice(int(starts[at]), int(starts[at + 1])),
            delivered[at + 1],
        )
        for at in range(count)
    )
    return Schedule(cutoff, slice(0, int(starts[0])), delivered[0], days)


def _label_days(times_us: Ints, known_us: Ints, cutoff: int, block_us: int) -> Ints:
    """Return the day of each label: -1 before the first training, far away when it never comes.

    A label known at a day's very end still belongs to that day, as trainings at that moment
    may use it; a label never comes before its row was asked about.
    """
    of_row = np.maximum((times_us - cutoff) // block_us, -1)
    of_label = np.maximum(-((cutoff - known_us) // block_us) - 1, of_row)
    days: Ints = np.where(known_us == NEVER, np.iinfo(np.int64).max, of_label)
    return days
