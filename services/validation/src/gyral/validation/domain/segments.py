"""What is remembered of accepted rows: sorted columns that are searched and merged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gyral.modelling.columns import Ints
from gyral.modelling.contents import Halves

_ROW_BYTES = 16 + 16 + 8 + 4
SLABS = 8
"""Parts into which the time is cut for which rows are remembered."""
_SHORTEST_US = 60_000_000
"""A slab is no shorter than that, so that there are few even where hardly any time is kept."""


@dataclass(frozen=True, slots=True)
class Identities:
    """Accepted rows as far as they are remembered, aligned, shape (rows,) each."""

    keys: Halves
    contents: Halves
    times_us: Ints
    revisions: NDArray[np.int32]

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.times_us)

    def take(self, chosen: Ints | NDArray[np.bool_]) -> Self:
        """Return the rows at these places."""
        return type(self)(
            self.keys[chosen],
            self.contents[chosen],
            self.times_us[chosen],
            self.revisions[chosen],
        )

    @classmethod
    def joined(cls, parts: Sequence["Identities"]) -> "Identities":
        """Return all rows of several, one after the other."""
        return cls(
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.contents for part in parts]),
            np.concatenate([part.times_us for part in parts]),
            np.concatenate([part.revisions for part in parts]),
        )

    def to_bytes(self) -> bytes:
        """Return the columns one after the other, little-endian."""
        columns = (
            self.keys.astype("<u8", copy=False),
            self.contents.astype("<u8", copy=False),
            self.times_us.astype("<i8", copy=False),
            self.revisions.astype("<i4", copy=False),
        )
        return b"".join(column.tobytes() for column in columns)

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Return what `to_bytes` wrote.

        Raises:
            ValueError: the bytes are no whole number of rows.
        """
        rows, rest = divmod(len(data), _ROW_BYTES)
        if rest:
            raise ValueError(f"expected a multiple of {_ROW_BYTES} bytes; found {len(data)}")
        halves = np.frombuffer(data, "<u8", 4 * rows).reshape(2, rows, 2)
        times = np.frombuffer(data, "<i8", rows, offset=32 * rows)
        revisions = np.frombuffer(data, "<i4", rows, offset=40 * rows)
        return cls(halves[0], halves[1], times, revisions)


@dataclass(frozen=True, slots=True)
class Segment:
    """Identities sorted by key, each key once."""

    rows: Identities

    @classmethod
    def of(cls, parts: Sequence[Identities]) -> Self:
        """Return the segment of these rows; of several with one key, the latest stays.

        That is the one with the highest revision, and of equal ones the last.
        """
        joined = Identities.joined(parts)
        order = np.argsort(joined.keys[:, 0], kind="stable")
        same = np.diff(joined.keys[order, 0]) == 0
        if same.any():
            order = np.lexsort((joined.revisions, joined.keys[:, 1], joined.keys[:, 0]))
            keys = joined.keys[order]
            order = order[np.append((keys[1:] != keys[:-1]).any(axis=1), True)]
        return cls(joined.take(order))

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)

    def places(self, keys: Halves) -> Ints:
        """Return where each key stands, or -1; shape (keys,)."""
        mine = self.rows.keys
        at = np.searchsorted(mine[:, 0], keys[:, 0])
        found = np.full(len(keys), -1, dtype=np.int64)
        left = np.arange(len(keys))
        while len(left):
            here = at[left]
            left = left[here < len(mine)]
            left = left[mine[at[left], 0] == keys[left, 0]]
            hit = mine[at[left], 1] == keys[left, 1]
            found[left[hit]] = at[left[hit]]
            left = left[~hit]
            at[left] += 1
        return found


@dataclass(frozen=True, slots=True)
class Window:
    """For how long rows are remembered, in slabs that are forgotten whole.

    Only rows of one slab are ever merged, so none is kept for the sake of a younger one for
    longer than a slab: a `SLABS`-th of each duration.
    """

    dedupe_us: int
    """Behind the newest event time; rows further back may go."""
    arrived_us: int
    """Since a row was accepted; only rows accepted longer ago may go."""

    def slab(self, newest_us: int, seen_us: int, now_us: int) -> tuple[int, int]:
        """Return the slab of rows by their event time and the time of their acceptance.

        Args:
            newest_us: event time; of a segment the newest.
            seen_us: when they were accepted; of a segment the latest.
            now_us: the newest event time of all: what is too old already is one slab.
        """
        return self._events(newest_us, now_us), seen_us // self._width_us(self.arrived_us)

    def split(
        self, times_us: Ints, seen_us: int, now_us: int
    ) -> list[tuple[tuple[int, int], Ints]]:
        """Return the slabs of rows accepted now, and where the rows of each are."""
        oldest_us = now_us - self.dedupe_us - self._width_us(self.dedupe_us)
        numbers = np.maximum(times_us, oldest_us) // self._width_us(self.dedupe_us)
        found = []
        for number in np.unique(numbers):
            chosen = np.flatnonzero(numbers == number)
            newest_us = int(times_us[chosen].max())
            found.append((self.slab(newest_us, seen_us, now_us), chosen))
        return found

    def _events(self, newest_us: int, now_us: int) -> int:
        width_us = self._width_us(self.dedupe_us)
        return max(newest_us, now_us - self.dedupe_us - width_us) // width_us

    def _width_us(self, whole_us: int) -> int:
        return max(_SHORTEST_US, whole_us // SLABS)


def to_merge(lengths: Sequence[int], fresh: int, *, most: int) -> int:
    """Return how many of the newest segments are to be merged with `fresh` new rows.

    Each segment ends up at least twice as long as all after it, so there are few of them and
    a row is written again only logarithmically often; none grows beyond `most` rows by it.
    """
    count = 0
    for length in reversed(lengths):
        if length >= 2 * fresh or length + fresh > most:
            break
        fresh += length
        count += 1
    return count
