"""Reads of a table what writers of it must know: where its rows lay, and what they hold."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
from deltalake import DeltaTable

from gyral.modelling.contents import EMPTY, Content
from gyral.validation.engine.files import log_lines, store_of

_READ_ROWS = 16_384
PLACES = pa.schema(
    [
        ("_topic", pa.string()),
        ("_partition", pa.int32()),
        ("_offset", pa.int64()),
    ]
)
"""The columns of every table: where in Kafka a row lay."""


class _Action(msgspec.Struct):
    """A line of a table's log, as far as commits are concerned."""

    commitInfo: dict[str, object] | None = None  # noqa: N815 - Delta's name


_decode = msgspec.json.Decoder(_Action).decode


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


@dataclass(frozen=True, slots=True)
class Commit:
    """A version of a table, as its log tells it."""

    operation: str
    facts: Mapping[str, str]
    """What else was written down with it, the texts."""


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


def held(
    table: DeltaTable,
    only: pc.Expression | None = None,
    among: Callable[[pa.RecordBatch], pa.RecordBatch] = lambda batch: batch,
) -> Content:
    """Return the content of a table's rows, read batch by batch.

    Args:
        table: at a version.
        only: what tells the rows that count, by columns that are no text: pyarrow cannot
            compare texts with the statistics of files that delta-rs has merged.
        among: takes those that count out of a batch.
    """
    found = EMPTY
    batches = table.to_pyarrow_dataset().to_batches(filter=only, batch_size=_READ_ROWS)
    for batch in batches:
        found += Content.of_rows(among(batch).to_pylist())
    return found


def commits(uri: str, options: Mapping[str, str], after: int, until: int) -> list[Commit]:
    """Return the commits of versions `after` + 1 to `until`, as far as the log has them.

    They are read from the log itself: `DeltaTable.history` numbers what it finds from the
    handle's version down, and begins with the newest of all.
    """
    store = store_of(uri, options)
    found = []
    for version in range(after + 1, until + 1):
        try:
            found.append(_commit(log_lines(store, version)))
        except FileNotFoundError:
            continue
    return found


def _commit(lines: list[bytes]) -> Commit:
    actions = map(_decode, lines)
    told = next((each.commitInfo for each in actions if each.commitInfo is not None), {})
    facts = {name: value for name, value in told.items() if isinstance(value, str)}
    return Commit(facts.get("operation", ""), facts)
