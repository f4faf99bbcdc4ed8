"""What comes out when a block of event time is over, and up to when rows may be used."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

import numpy as np

from gyral.contracts.specs.expectations import Severity
from gyral.modelling.columns import Ints
from gyral.modelling.histograms import js_distances
from gyral.validation.domain.blocks import Counts
from gyral.validation.domain.expectations import Kind, Watched

MOST_BLOCKS = 500
"""Blocks of one expectation that are judged at once; the rest follow."""
_ONE_FIELD = np.zeros(1, dtype=np.int64)


class Outcome(StrEnum):
    """What a block came to."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"
    """Too little to judge by; it holds nobody back."""


@dataclass(frozen=True, slots=True)
class Position:
    """Where one expectation stands."""

    name: str
    measure: str
    next_us: int | None = None
    """Start of the first block that is not judged; None before the stream's first block."""
    newest_us: int | None = None
    """Newest event time of the blocks that were judged."""
    reference: tuple[int, ...] | None = None
    """Counts of the last block that passed."""
    reference_us: int | None = None
    failing: bool = False
    """The last block that was judged failed: it was told, the next need not be."""


@dataclass(frozen=True, slots=True)
class Judged:
    """One block's outcome."""

    watched: Watched
    start_us: int
    rows: int
    measured: float | None
    outcome: Outcome
    told: bool
    """It is the first of its kind in a row: people are to be told."""
    counts: tuple[int, ...] | None = None
    """What becomes the reference if somebody releases it."""

    @property
    def end_us(self) -> int:
        """Where the block ends."""
        return self.start_us + self.watched.measure.over_us


def close(
    watched: Watched, position: Position, counted: Mapping[int, Counts], watermark_us: int
) -> tuple[list[Judged], Position]:
    """Judge the blocks that are over; the outcomes follow from the rows in them alone.

    Args:
        watched: the expectation.
        position: where it stands.
        counted: by start, the blocks with rows that are not judged: all of them, or the first
            ones and more than `MOST_BLOCKS`.
        watermark_us: up to when the stream is complete.
    """
    position = _begun(watched, position, counted, watermark_us)
    if position.next_us is None:
        return [], position
    outcomes = []
    starts, next_us = _due(watched, position.next_us, sorted(counted), watermark_us)
    for start_us in starts:
        judged, position = _judge(watched, position, start_us, counted.get(start_us))
        outcomes.append(judged)
    return outcomes, replace(position, next_us=next_us)


def _begun(
    watched: Watched, position: Position, counted: Mapping[int, Counts], watermark_us: int
) -> Position:
    """Begin at the stream's first block once it is over.

    It is no whole block: how many rows it has says nothing, nor how old they are at its end.
    """
    first_us = min(counted, default=None)
    end_us = watched.measure.start_of(watermark_us)
    if position.next_us is not None or first_us is None or first_us >= end_us:
        return position
    if not watched.measure.kind.judges_empty_blocks:
        return replace(position, next_us=first_us)
    newest = _newest(watched, position, counted[first_us])
    return replace(position, next_us=first_us + watched.measure.over_us, newest_us=newest)


def _due(
    watched: Watched, next_us: int, counted: Sequence[int], watermark_us: int
) -> tuple[Sequence[int], int]:
    """Return the blocks to judge now, and the first one after them."""
    over_us = watched.measure.over_us
    end_us = max(next_us, watched.measure.start_of(watermark_us))
    if watched.measure.kind.judges_empty_blocks:
        stop_us = min(end_us, next_us + MOST_BLOCKS * over_us)
        return range(next_us, stop_us, over_us), stop_us
    starts = [start for start in counted if next_us <= start < end_us]
    if len(starts) > MOST_BLOCKS:
        return starts[:MOST_BLOCKS], starts[MOST_BLOCKS]
    return starts, end_us


def _judge(
    watched: Watched, position: Position, start_us: int, counts: Counts | None
) -> tuple[Judged, Position]:
    """Judge one block, and return where the expectation stands after it."""
    position = replace(position, newest_us=_newest(watched, position, counts))
    rows = 0 if counts is None else counts.rows
    measured = _measured(watched, position, start_us, counts)
    outcome = _outcome(watched, position, rows, measured)
    failed = outcome is Outcome.FAILED
    cells = None
    if counts is not None and watched.measure.kind is Kind.DISTRIBUTION:
        cells = tuple(counts.values.tolist())
    told = failed and not position.failing
    judged = Judged(
        watched, start_us, rows, measured, outcome, told, counts=cells if failed else None
    )
    if outcome is Outcome.SKIPPED:
        return judged, position
    position = replace(position, failing=failed)
    if not failed and cells is not None:
        position = replace(position, reference=cells, reference_us=start_us)
    return judged, position


def usable_until(
    watermark_us: int | None,
    watched: Sequence[Watched],
    positions: Sequence[Position],
    first_held_us: int | None,
) -> int | None:
    """Return the event time before which every expectation that blocks was met.

    Args:
        watermark_us: up to when the stream is complete.
        watched: what is expected of it.
        positions: where each stands.
        first_held_us: start of the oldest block that failed, blocks and was not released.
    """
    if watermark_us is None:
        return None
    blocking = {one.name for one in watched if one.severity is Severity.BLOCK}
    reached = [one.next_us or 0 for one in positions if one.name in blocking]
    held = [] if first_held_us is None else [first_held_us]
    return min([watermark_us, *reached, *held])


def _newest(watched: Watched, position: Position, counts: Counts | None) -> int | None:
    if watched.measure.kind is not Kind.FRESHNESS or counts is None:
        return position.newest_us
    newest = int(counts.values[0])
    return newest if position.newest_us is None else max(newest, position.newest_us)


def _measured(
    watched: Watched, position: Position, start_us: int, counts: Counts | None
) -> float | None:
    """Return what the limits are held against, or None where there is nothing to measure."""
    match watched.measure.kind:
        case Kind.ROW_COUNT:
            return 0.0 if counts is None else float(counts.rows)
        case Kind.FRESHNESS if position.newest_us is not None:
            end_us = start_us + watched.measure.over_us
            return max(0, end_us - position.newest_us) / 1e6
        case Kind.NULL_SHARE if counts is not None:
            return float(counts.values[0]) / counts.rows
        case Kind.DISTINCT_COUNT if counts is not None:
            return float(len(counts.values))
        case Kind.DISTRIBUTION if counts is not None and position.reference is not None:
            reference: Ints = np.array(position.reference, dtype=np.int64)
            return float(js_distances(reference, counts.values.astype(np.int64), _ONE_FIELD)[0])
        case _:
            return None


def _outcome(
    watched: Watched, position: Position, rows: int, measured: float | None
) -> Outcome:
    if rows < watched.min_rows:
        return Outcome.SKIPPED
    if measured is None:
        first = watched.measure.kind is Kind.DISTRIBUTION and position.reference is None
        return Outcome.PASSED if first else Outcome.SKIPPED
    low, high = watched.at_least, watched.at_most
    if (low is not None and measured < low) or (high is not None and measured > high):
        return Outcome.FAILED
    return Outcome.PASSED
