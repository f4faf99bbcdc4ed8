"""Rows of one stream as columns: all that they alone decide, whatever was here before them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from gyral.kit.partitioning import partitions_of
from gyral.modelling.columns import Bools, Ints
from gyral.modelling.contents import Halves
from gyral.validation.engine.groups import Group
from gyral.validation.engine.schema import digests_of


@dataclass(frozen=True, slots=True)
class Columns:
    """What is computed of rows, aligned, shape (rows,) each."""

    table: pa.Table
    """The rows as the lake keeps them."""
    keys: Halves
    contents: Halves
    times_us: Ints
    homes: NDArray[np.int32]
    """The partitions where murmur2 puts the keys of their records."""
    misnamed: Bools
    """Rows that have another key than their records."""

    @classmethod
    def joined(cls, parts: Sequence["Columns"]) -> "Columns":
        """Return those of several parts, one after the other, each column in one piece."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            table=pa.concat_tables([part.table for part in parts]).combine_chunks(),
            keys=np.concatenate([part.keys for part in parts]),
            contents=np.concatenate([part.contents for part in parts]),
            times_us=np.concatenate([part.times_us for part in parts]),
            homes=np.concatenate([part.homes for part in parts]),
            misnamed=np.concatenate([part.misnamed for part in parts]),
        )


def columns_of(group: Group, partitions: int) -> Columns:
    """Return the columns of rows, of a topic with so many partitions.

    Raises:
        OverflowError: a row has a time that is none in UTC.
    """
    schema, keys, rows = group.schema, group.keys, group.rows
    table = schema.table(rows, group.partitions, group.offsets, group.indices)
    named, encoded = schema.keys(rows), list(map(str.encode, keys))
    return Columns(
        table=table,
        keys=digests_of(encoded),
        contents=schema.contents(rows),
        times_us=schema.times_us(table),
        homes=partitions_of(encoded, partitions),
        misnamed=_differ(named, keys),
    )


def _differ(ours: Sequence[str], theirs: Sequence[str]) -> Bools:
    if ours == theirs:
        return np.zeros(len(ours), dtype=np.bool_)
    return np.fromiter(map(str.__ne__, ours, theirs), np.bool_, len(ours))
