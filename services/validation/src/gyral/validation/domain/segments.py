"""What is remembered of accepted rows: sorted columns that are searched and merged."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from gyral.modelling.columns import Ints
from gyral.modelling.contents import Halves

_ROW_BYTES = 16 + 16 + 8 + 4


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
        """Return the segment of these rows; of several with one key, the last stays."""
        joined = Identities.joined(parts)
        order = np.argsort(joined.keys[:, 0], kind="stable")
        same = np.diff(joined.keys[order, 0]) == 0
        if same.any():
            order = np.lexsort((joined.keys[:, 1], joined.keys[:, 0]))
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
