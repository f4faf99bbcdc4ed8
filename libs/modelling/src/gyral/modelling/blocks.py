"""Blocks of event time, the unit of evidence: rows of one day share its weather, days do not.

Whatever averages over rows is resampled by whole blocks; treating rows as independent gives
intervals many times too narrow on real streams.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.random import Generator

from gyral.modelling.columns import Floats, Ints

DRAWS = 2000
"""Bootstrap resamples: enough for a 5 % quantile to be steady to about its second digit."""


class TooFewBlocksError(ValueError):
    """There is too little evidence to say how far a mean may lie from the truth."""


@dataclass(frozen=True, slots=True)
class BlockSums:
    """Rows and the sum of one quantity per block, in order of time; each shape (blocks,)."""

    ids: Ints
    rows: Ints
    sums: Floats

    @property
    def mean(self) -> float:
        """Mean over rows, NaN when there are none."""
        rows = int(self.rows.sum())
        return float(self.sums.sum() / rows) if rows else float("nan")


@dataclass(frozen=True, slots=True)
class MeanBounds:
    """A mean over rows with one-sided bounds, each at the confidence asked for."""

    mean: float
    lower: float
    upper: float
    rows: int
    blocks: int


def block_ids(times_us: npt.ArrayLike, length_us: int) -> Ints:
    """Give the block of each event time, counting whole lengths from 1970-01-01 UTC.

    Args:
        times_us: event times in microseconds UTC, any shape.
        length_us: the length of a block in microseconds, > 0.

    Raises:
        ValueError: the length is not positive.
    """
    if length_us <= 0:
        raise ValueError(f"length_us: expected > 0, found {length_us}")
    return np.asarray(times_us, dtype=np.int64) // length_us


def block_sums(ids: Ints, values: Floats) -> BlockSums:
    """Add up the values of each block.

    Args:
        ids: block of each row, shape (n,).
        values: finite quantity of each row, shape (n,).

    Raises:
        ValueError: the shapes differ.
    """
    if ids.shape != values.shape:
        raise ValueError(f"values: expected shape {ids.shape} as of ids, found {values.shape}")
    unique, inverse = np.unique(ids, return_inverse=True)
    rows = np.bincount(inverse, minlength=len(unique)).astype(np.int64)
    sums = np.bincount(inverse, values, minlength=len(unique)).astype(np.float64)
    return BlockSums(unique, rows, sums)


def bootstrap_means(blocks: BlockSums, rng: Generator, draws: int = DRAWS) -> Floats:
    """Draw blocks with replacement and take each draw's mean over rows, shape (draws,).

    The mean is a ratio of sums, so a block weighs by its rows.

    Raises:
        TooFewBlocksError: fewer than two blocks hold rows.

    Source: B. Efron, R. Tibshirani, An Introduction to the Bootstrap (1993), 8.6 (blocks).
    """
    filled = blocks.rows > 0
    count = int(filled.sum())
    if count < 2:  # noqa: PLR2004 - one block says nothing of how blocks differ
        raise TooFewBlocksError(f"blocks with rows: expected at least 2, found {count}")
    weights = rng.multinomial(count, np.full(count, 1.0 / count), size=draws)
    means: Floats = (weights @ blocks.sums[filled]) / (weights @ blocks.rows[filled])
    return means


def mean_bounds(
    blocks: BlockSums, rng: Generator, *, confidence: float = 0.95, draws: int = DRAWS
) -> MeanBounds:
    """Bound a mean over rows from each side by the percentile bootstrap over blocks.

    Args:
        blocks: rows and sums per block, such as those of a paired difference of losses.
        rng: seeded by the caller, so that a verdict can be repeated.
        confidence: of each bound by itself, in (0, 1).
        draws: number of resamples.

    Raises:
        TooFewBlocksError: fewer than two blocks hold rows.
    """
    means = bootstrap_means(blocks, rng, draws)
    lower, upper = np.quantile(means, [1.0 - confidence, confidence])
    return MeanBounds(
        blocks.mean,
        float(lower),
        float(upper),
        rows=int(blocks.rows.sum()),
        blocks=int((blocks.rows > 0).sum()),
    )


def paired_bounds(
    first: Floats,
    second: Floats,
    ids: Ints,
    rng: Generator,
    *,
    confidence: float = 0.95,
    draws: int = DRAWS,
) -> MeanBounds:
    """Bound mean(first - second) over the same rows; a lower bound above 0 favours the second.

    Args:
        first: per-row loss of the champion, shape (n,).
        second: per-row loss of the challenger on the same rows, shape (n,).
        ids: block of each row, shape (n,).
        rng: seeded by the caller.
        confidence: of each bound by itself, in (0, 1).
        draws: number of resamples.

    Raises:
        TooFewBlocksError: fewer than two blocks hold rows.
        ValueError: the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"second: expected shape {first.shape}, found {second.shape}")
    return mean_bounds(block_sums(ids, first - second), rng, confidence=confidence, draws=draws)
