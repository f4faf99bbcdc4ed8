"""Counts of one block of event time: they add up in any order to those of all its rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from gyral.modelling.blocks import block_ids
from gyral.modelling.columns import Bools, Ints
from gyral.validation.domain.expectations import Kind, Measure
from gyral.validation.domain.watermark import PartitionTime

Codes: TypeAlias = NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.bool_]
"""What a measure needs of each row: a cell, a value's digest, whether it is null."""
NULL = np.uint64(0)
"""Stands among digests for a row without a value."""
_LEAST = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted of some rows of one block."""

    rows: int
    values: Ints | NDArray[np.uint64]
    """By kind: nothing, nulls, the newest time, cells, or the smallest digests in order."""

    def to_bytes(self) -> bytes:
        """Return the values, little-endian."""
        return self.values.astype(self.values.dtype.newbyteorder("<"), copy=False).tobytes()

    @classmethod
    def from_bytes(cls, measure: Measure, rows: int, data: bytes) -> "Counts":
        """Return what `to_bytes` wrote."""
        if measure.kind is Kind.DISTINCT_COUNT:
            digests: NDArray[np.uint64] = np.frombuffer(data, "<u8")
            return cls(rows, digests)
        values: Ints = np.frombuffer(data, "<i8")
        return cls(rows, values)


@dataclass(frozen=True, slots=True)
class Place:
    """A block of one measure, as far as one partition holds it."""

    measure: str
    block_us: int
    partition: int


def merged(measure: Measure, one: Counts, other: Counts) -> Counts:
    """Return the counts of both parts of a block together."""
    rows = one.rows + other.rows
    match measure.kind:
        case Kind.DISTINCT_COUNT:
            union = np.union1d(one.values, other.values)[: measure.most]
            return Counts(rows, union.astype(np.uint64, copy=False))
        case Kind.FRESHNESS:
            return Counts(rows, np.maximum(one.values, other.values))
        case _:
            return Counts(rows, one.values + other.values)


@dataclass(frozen=True, slots=True)
class Observed:
    """Accepted rows of one stream in one batch, aligned, each partition's in its order."""

    times_us: Ints
    partitions: Ints
    offsets: Ints
    codes: Mapping[str, Codes] = field(default_factory=dict)
    """By measure; a measure that needs nothing of a row has none."""
    markers: Sequence[tuple[int, int, int]] = ()
    """(partition, offset, event time) of the stream's markers in the batch."""

    def promised_us(self, before: Mapping[int, PartitionTime], lateness_us: int) -> Ints:
        """Return up to when each row's partition was complete just before it, shape (rows,).

        It follows from the order within the partition alone and not from where a batch ends.
        """
        promised = np.full(len(self.times_us), _LEAST, dtype=np.int64)
        for partition in np.unique(self.partitions):
            rows = np.flatnonzero(self.partitions == partition)
            known = before.get(int(partition), PartitionTime()).watermark(lateness_us)
            reached = np.maximum.accumulate(self.times_us[rows]) - lateness_us
            earlier = np.append(_LEAST if known is None else known, reached[:-1])
            promised[rows] = np.maximum.accumulate(earlier)
            self._mark(promised, rows, int(partition))
        return promised

    def _mark(self, promised: Ints, rows: Ints, partition: int) -> None:
        marks = sorted((at, time) for home, at, time in self.markers if home == partition)
        if not marks:
            return
        reached = np.maximum.accumulate([time for _, time in marks])
        behind = np.searchsorted([at for at, _ in marks], self.offsets[rows])
        marked = np.append(_LEAST, reached)[behind]
        promised[rows] = np.maximum(promised[rows], marked)

    def counts(
        self, wanted: Mapping[Measure, int | None], promised_us: Ints
    ) -> tuple[dict[Place, Counts], int]:
        """Count rows by block and partition, and how many came too late for some measure.

        Args:
            wanted: what to count, each from the start of the first block that is not judged
                yet; None: all blocks may still come.
            promised_us: of each row, shape (rows,).
        """
        found: dict[Place, Counts] = {}
        groups: dict[tuple[int, int | None], list[_Group]] = {}
        most_late = 0
        for measure, from_us in wanted.items():
            alike = (measure.over_us, from_us)
            if alike not in groups:
                blocks = block_ids(self.times_us, measure.over_us)
                late = (blocks + 1) * measure.over_us <= promised_us
                most_late = max(most_late, int(late.sum()))
                kept = ~late
                if from_us is not None:
                    kept &= blocks * measure.over_us >= from_us
                groups[alike] = list(self._grouped(blocks, kept))
            codes = self.codes.get(measure.id, self.times_us)
            for group in groups[alike]:
                values = _by_block(measure, group.block, len(group.ids), codes[group.chosen])
                for block, rows, counted in zip(group.ids, group.rows, values, strict=True):
                    place = Place(measure.id, block * measure.over_us, group.partition)
                    found[place] = Counts(rows, counted)
        return found, most_late

    def _grouped(self, blocks: Ints, kept: Bools) -> Iterator["_Group"]:
        for partition in np.unique(self.partitions[kept]):
            chosen = np.flatnonzero(kept & (self.partitions == partition))
            ids, at, rows = np.unique(blocks[chosen], return_inverse=True, return_counts=True)
            yield _Group(int(partition), chosen, ids.tolist(), at, rows.tolist())


@dataclass(frozen=True, slots=True)
class _Group:
    """Rows of one partition, by block."""

    partition: int
    chosen: Ints
    """Which rows these are, shape (n,)."""
    ids: Sequence[int]
    """Their blocks, in order."""
    block: Ints
    """Each row's place among the blocks, shape (n,)."""
    rows: Sequence[int]
    """How many rows each block has."""


def _by_block(
    measure: Measure, at: Ints, blocks: int, codes: Codes
) -> Sequence[Ints | NDArray[np.uint64]]:
    """Return the values of each block, given each row's block, shape (rows,)."""
    match measure.kind:
        case Kind.ROW_COUNT:
            return [np.empty(0, dtype=np.int64)] * blocks
        case Kind.NULL_SHARE:
            nulls = np.bincount(at[codes.astype(np.bool_)], minlength=blocks)
            return list(nulls.astype(np.int64).reshape(blocks, 1))
        case Kind.FRESHNESS:
            newest = np.full((blocks, 1), _LEAST, dtype=np.int64)
            np.maximum.at(newest[:, 0], at, codes.astype(np.int64))
            return list(newest)
        case Kind.DISTINCT_COUNT:
            order = np.argsort(at, kind="stable")
            parts = np.split(codes[order], np.cumsum(np.bincount(at, minlength=blocks))[:-1])
            return [np.unique(part[part != NULL])[: measure.most] for part in parts]
        case Kind.DISTRIBUTION:
            assert measure.bins is not None  # noqa: S101 - every distribution has bins
            size = measure.bins.size
            cells = np.bincount(at * size + codes, minlength=blocks * size)
            return list(cells.astype(np.int64).reshape(blocks, size))
