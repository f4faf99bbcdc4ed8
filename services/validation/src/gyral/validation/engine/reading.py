"""Reads of a table what writers of it must know: where its rows lay, and what they hold."""

from dataclasses import dataclass

import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from gyral.modelling.contents import EMPTY, Content

_READ_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive offsets of one partition: the first and the last."""

    topic: str
    partition: int
    first: int
    last: int

    @property
    def app(self) -> str:
        """The name under which Delta remembers how far this partition got."""
        return f"{self.topic}/{self.partition}"


Offsets = frozenset[tuple[int, int, int]]
"""(partition, offset, index within the record) of rows."""


def rows_of(table: DeltaTable, span: Span) -> set[tuple[int, int, int]]:
    """Return which of these offsets a table has."""
    there = (
        (ds.field("_topic") == span.topic)
        & (ds.field("_partition") == span.partition)
        & (ds.field("_offset") >= span.first)
        & (ds.field("_offset") <= span.last)
    )
    dataset = table.to_pyarrow_dataset()
    placed = [name for name in ("_offset", "_row") if name in dataset.schema.names]
    rows = dataset.to_table(columns=placed, filter=there)
    offsets = rows["_offset"].to_pylist()
    indices = rows["_row"].to_pylist() if "_row" in placed else [0] * len(offsets)
    return {
        (span.partition, offset, index or 0)
        for offset, index in zip(offsets, indices, strict=True)
    }


def held(table: DeltaTable, only: pc.Expression | None = None) -> Content:
    """Return the content of a table's rows, read batch by batch."""
    found = EMPTY
    batches = table.to_pyarrow_dataset().to_batches(filter=only, batch_size=_READ_ROWS)
    for batch in batches:
        found += Content.of_rows(batch.to_pylist())
    return found
