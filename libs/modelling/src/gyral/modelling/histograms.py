"""Histograms over bins fixed at training time, and how far apart two of them are.

Counts over fixed bins merge exactly: the counts of two windows add up to those of their rows
together, so a replay or a rebalance changes nothing. All features lie side by side in one
vector of cells, each feature's cells from its offset on.
"""

from collections.abc import Sequence
from functools import cached_property
from itertools import repeat

import msgspec
import numpy as np

from gyral.modelling.columns import (
    Column,
    Columns,
    Floats,
    Ints,
    categories_by_frequency,
    numbers,
    rows_of,
    texts,
)
from gyral.modelling.features import FeatureKind, FeatureSpec

NUMERIC_BINS = 10
"""Bins of a number, cut at reference quantiles."""

LISTED_CATEGORIES = 64
"""Categories with a cell of their own, the frequent first; the others count as unseen."""

PSI_FLOOR = 1e-4
"""Smallest share of a cell in the population stability index, which is infinite at 0."""


class NumericBins(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="as", tag="numeric"
):
    """Half-open bins [edge, next edge) with open ends, and a last cell for missing."""

    name: str
    edges: tuple[float, ...]

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.edges) + 2

    def cells(self, column: Column) -> Ints:
        """Find the cell of each row, shape (n,); raises ColumnError for what is no number."""
        values = numbers(self.name, column)
        found = np.searchsorted(np.array(self.edges), values, side="right")
        found[np.isnan(values)] = self.size - 1
        return found.astype(np.int64, copy=False)


class CategoryBins(
    msgspec.Struct,
    frozen=True,
    forbid_unknown_fields=True,
    tag_field="as",
    tag="categories",
    dict=True,
):
    """A cell per listed category, one for all others, and a last one for missing."""

    name: str
    categories: tuple[str, ...]

    @property
    def size(self) -> int:
        """Number of cells."""
        return len(self.categories) + 2

    def cells(self, column: Column) -> Ints:
        """Find the cell of each row, shape (n,)."""
        found = map(self._index.get, texts(column), repeat(len(self.categories)))
        return np.fromiter(found, np.int64, len(column))

    @cached_property
    def _index(self) -> dict[str | None, int]:
        index: dict[str | None, int] = {it: cell for cell, it in enumerate(self.categories)}
        index[None] = len(self.categories) + 1
        return index


class ReferenceBins(msgspec.Struct, frozen=True, forbid_unknown_fields=True, dict=True):
    """The bins of all features of a model, fixed when it was trained."""

    features: tuple[NumericBins | CategoryBins, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Raw columns it counts, in order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def offsets(self) -> Ints:
        """First cell of each feature, shape (features,)."""
        sizes = [feature.size for feature in self.features]
        return np.cumsum([0, *sizes[:-1]], dtype=np.int64)

    @property
    def size(self) -> int:
        """Number of cells of all features together."""
        return sum(feature.size for feature in self.features)

    def count(self, columns: Columns) -> Ints:
        """Count rows per cell, shape (size,).

        Raises:
            ColumnError: a column is absent, of another length, or no number where one is due.
        """
        rows_of(columns, self.names)
        return np.concatenate(
            [
                np.bincount(feature.cells(columns[feature.name]), minlength=feature.size)
                for feature in self.features
            ]
        ).astype(np.int64, copy=False)

    def count_blocks(self, columns: Columns, ids: Ints) -> tuple[Ints, Ints]:
        """Count rows per block and cell.

        Args:
            columns: raw columns of n rows.
            ids: block of each row, shape (n,).

        Returns:
            The distinct blocks in order, shape (blocks,), and the counts, (blocks, size).

        Raises:
            ColumnError: a column is absent, of another length, or no number where one is due.
        """
        rows_of({**columns, "block": ids}, [*self.names, "block"])
        blocks, at = np.unique(ids, return_inverse=True)
        counts = [
            np.bincount(
                at * feature.size + feature.cells(columns[feature.name]),
                minlength=len(blocks) * feature.size,
            ).reshape(len(blocks), feature.size)
            for feature in self.features
        ]
        return blocks, np.hstack(counts).astype(np.int64, copy=False)

    def js_distances(self, reference: Ints | Floats, live: Ints | Floats) -> Floats:
        """Measure each feature's Jensen-Shannon distance; see `js_distances`."""
        return js_distances(reference, live, self.offsets)

    def population_stability(self, reference: Ints, live: Ints) -> Floats:
        """Measure each feature's stability index; see `population_stability`."""
        return population_stability(reference, live, self.offsets)


def reference_bins(
    columns: Columns,
    features: Sequence[FeatureSpec],
    *,
    numeric_bins: int = NUMERIC_BINS,
    categories: int = LISTED_CATEGORIES,
) -> ReferenceBins:
    """Fix the bins on training rows.

    Args:
        columns: raw training columns.
        features: those to watch, in order.
        numeric_bins: bins per number, cut at its quantiles.
        categories: most categories with cells of their own.

    Raises:
        ColumnError: a column is absent, of another length, or no number where one is due.
    """
    rows_of(columns, [feature.name for feature in features])
    return ReferenceBins(
        tuple(
            _category_bins(feature.name, columns[feature.name], categories)
            if feature.kind is FeatureKind.CATEGORICAL
            else numeric_bins_of(feature.name, columns[feature.name], numeric_bins)
            for feature in features
        )
    )


def numeric_bins_of(name: str, column: Column, bins: int = NUMERIC_BINS) -> NumericBins:
    """Cut a number at its reference quantiles.

    A value so common that several quantiles meet on it gets a bin of its own, or a column that
    is nearly always 0 could rise unseen.

    Raises:
        ColumnError: the column holds what is no number.
    """
    values = numbers(name, column)
    present = values[np.isfinite(values)]
    if not len(present):
        return NumericBins(name, ())
    quantiles = np.quantile(present, np.arange(1, bins) / bins)
    edges, times = np.unique(quantiles, return_counts=True)
    above = np.nextafter(edges[times > 1], np.inf)
    return NumericBins(name, tuple(np.union1d(edges, above).tolist()))


def js_distances(reference: Ints | Floats, live: Ints | Floats, offsets: Ints) -> Floats:
    """Measure, per feature, how far the live shares of cells are from the reference's.

    d = sqrt((KL(p|m) + KL(q|m)) / 2), m = (p + q) / 2, natural logarithm: 0 when equal and
    sqrt(ln 2) = 0.833 when they share no cell.

    Args:
        reference: counts per cell, shape (..., cells), all >= 0.
        live: counts per cell, of a shape that broadcasts with `reference`.
        offsets: first cell of each feature, shape (features,).

    Returns:
        Distances, shape (..., features).

    Raises:
        ValueError: a histogram is empty.

    Source: D. Endres, J. Schindelin, IEEE Trans. Inf. Theory 49 (2003), 1858-1860.
    """
    p, q = _shares(reference, offsets), _shares(live, offsets)
    middle = (p + q) / 2.0
    divergence = (_relative(p, middle) + _relative(q, middle)) / 2.0
    distances: Floats = np.sqrt(np.maximum(np.add.reduceat(divergence, offsets, axis=-1), 0.0))
    return distances


def population_stability(
    reference: Ints | Floats,
    live: Ints | Floats,
    offsets: Ints,
    *,
    floor: float = PSI_FLOOR,
) -> Floats:
    """Measure, per feature, the population stability index of the live shares.

    PSI = sum (q - p) ln(q / p), in nats, shares below `floor` raised to it.

    Args:
        reference: counts per cell, shape (..., cells), all >= 0.
        live: counts per cell, of a shape that broadcasts with `reference`.
        offsets: first cell of each feature, shape (features,).
        floor: smallest share, > 0.

    Returns:
        Indices >= 0, shape (..., features).

    Raises:
        ValueError: a histogram is empty.

    Source: H. Jeffreys, Proc. R. Soc. Lond. A 186 (1946), 453-461, with the floor usual in
        credit scoring.
    """
    p = np.maximum(_shares(reference, offsets), floor)
    q = np.maximum(_shares(live, offsets), floor)
    index: Floats = np.add.reduceat((q - p) * np.log(q / p), offsets, axis=-1)
    return index


def _category_bins(name: str, column: Column, categories: int) -> CategoryBins:
    return CategoryBins(name, tuple(categories_by_frequency(column)[:categories]))


def _shares(counts: Ints | Floats, offsets: Ints) -> Floats:
    totals = np.add.reduceat(counts, offsets, axis=-1)
    if np.any(totals <= 0):
        raise ValueError("histogram: expected at least one row per feature, found none")
    sizes = np.diff([*offsets.tolist(), counts.shape[-1]])
    shares: Floats = counts / np.repeat(totals, sizes, axis=-1)
    return shares


def _relative(p: Floats, middle: Floats) -> Floats:
    ratio = np.divide(p, middle, out=np.ones_like(middle), where=p > 0.0)
    terms: Floats = p * np.log(ratio)
    return terms
