"""A request's body, whatever its form, as the values of Kafka records."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gyral.contracts.specs.stream import StreamField
from gyral.ingestion.domain import Door
from gyral.ingestion.engine.cloaking import Cloak
from gyral.ingestion.engine.forms import MediaType, Rows, Value
from gyral.ingestion.engine.lines import read_document, read_lines
from gyral.ingestion.engine.uploads import read_arrow, read_parquet


@dataclass(frozen=True, slots=True)
class Limits:
    """How much one request may hold."""

    max_rows: int
    max_inflated_bytes: int


@dataclass(frozen=True, slots=True)
class Task:
    """How to read a body: its form, the door it must pass, and where its rows go."""

    form: MediaType
    door: Door
    fields: Mapping[str, StreamField]
    limits: Limits
    partitions: int
    cloak: Cloak | None = None
    """What becomes of personal fields; None where the stream has none."""


def values_of(body: bytes, task: Task) -> Sequence[Value]:
    """Return all rows of a body, checked, grouped by partition and cut to what records carry.

    Raises:
        Refusal: 4xx, naming what is wrong; the body is refused whole.
    """
    if task.cloak is not None:
        return list(task.cloak.values(lambda: _rows_of(body, task), task.partitions))
    return list(_rows_of(body, task).values(task.partitions))


def _rows_of(body: bytes, task: Task) -> Rows:
    max_rows = task.limits.max_rows
    match task.form:
        case MediaType.NDJSON:
            return read_lines(body, task.door, max_rows=max_rows)
        case MediaType.ARROW:
            return read_arrow(body, task.door, task.fields, max_rows=max_rows)
        case MediaType.PARQUET:
            return read_parquet(
                body,
                task.door,
                task.fields,
                max_rows=max_rows,
                max_bytes=task.limits.max_inflated_bytes,
            )
        case form:
            return read_document(body, form, task.door, max_rows=max_rows)
