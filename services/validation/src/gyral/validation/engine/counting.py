"""Takes from accepted rows what is counted of them, a column at a time."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from gyral.modelling.columns import Ints
from gyral.modelling.histograms import CategoryBins
from gyral.validation.domain.blocks import NULL, Codes, Observed
from gyral.validation.domain.expectations import Bins, Kind, Measure


def observed(
    measures: Sequence[Measure],
    table: pa.Table,
    times_us: Ints,
    markers: Sequence[tuple[int, int, int]],
) -> Observed:
    """Return what of these rows is to be counted.

    Args:
        measures: what their stream's expectations count.
        table: n rows as the lake keeps them.
        times_us: their event times, shape (n,).
        markers: (partition, offset, event time) of the stream's markers beside them.
    """
    return Observed(
        times_us=times_us,
        partitions=table["_partition"].to_numpy().astype(np.int64),
        offsets=table["_offset"].to_numpy(),
        codes={
            one.id: _codes(one, table[one.field].combine_chunks())
            for one in measures
            if one.field is not None
        },
        markers=markers,
    )


def _codes(measure: Measure, column: pa.Array) -> Codes:
    match measure.kind:
        case Kind.NULL_SHARE:
            return np.asarray(column.is_null().to_numpy(zero_copy_only=False), dtype=np.bool_)
        case Kind.DISTINCT_COUNT:
            return _digests(column)
        case _:
            assert measure.bins is not None  # noqa: S101 - every distribution has bins
            return _cells(measure.bins, column)


def _digests(column: pa.Array) -> NDArray[np.uint64]:
    """Return what tells one value from another, shape (rows,)."""
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.string())
    encoded = column.dictionary_encode()
    texts = map(str.encode, map(str, encoded.dictionary.to_pylist()))
    listed = np.fromiter(map(xxh3_64_intdigest, texts), np.uint64, len(encoded.dictionary))
    return np.append(listed, NULL)[_indices(encoded)]


def _cells(bins: Bins, column: pa.Array) -> Ints:
    """Return each row's bin, shape (rows,)."""
    if not isinstance(bins, CategoryBins):
        numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        return bins.cells(numbers)
    encoded = column.dictionary_encode()
    listed = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    found: Ints = bins.cells(listed)[_indices(encoded)]
    return found


def _indices(encoded: pa.DictionaryArray) -> Ints:
    """Return each row's place in the dictionary; behind its end for a null."""
    places = pc.fill_null(encoded.indices, len(encoded.dictionary))
    found: Ints = places.to_numpy(zero_copy_only=False).astype(np.int64)
    return found
