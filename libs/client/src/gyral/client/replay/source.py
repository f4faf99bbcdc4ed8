"""A CSV or Parquet file as the two streams it stands for: columns in order of time and key."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from gyral.client.errors import ClientError
from gyral.client.replay.schedule import NEVER
from gyral.client.replay.variants import Declared
from gyral.client.rows.columns import (
    Cells,
    MisfitError,
    cells,
    micros,
    objects,
    rfc3339,
    typed,
)
from gyral.client.rows.files import File, Format
from gyral.contracts.specs.document import duration_seconds
from gyral.contracts.specs.stream import FieldType, StreamField, StreamSpec
from gyral.modelling.columns import Ints


@dataclass(frozen=True, slots=True)
class Columns:
    """Which columns of the file play which part; None: the column the stream names, if any."""

    time: str
    label: str
    key: str | None = None
    label_at: str | None = None
    label_lag: str | None = None


@dataclass(frozen=True, slots=True)
class Source:
    """A file's rows in order of (time, key), as JSON will carry them."""

    keys: Cells
    times_us: Ints
    known_us: Ints
    """When a row's label is known; `NEVER` where it has none."""
    features: Mapping[str, Cells]
    """Fields of the feature stream."""
    labels: Mapping[str, Cells]
    """Fields of the label stream; rows that are never labelled hold what is never sent."""

    def __len__(self) -> int:
        return len(self.times_us)


def read(path: Path, columns: Columns, declared: Declared) -> Source:
    """Return the file's rows.

    Raises:
        ClientError: it cannot be read, or lacks a column that a field needs.
    """
    table = _Table(path, _load(path))
    times = table.times(columns.time)
    keys = table.keys(columns.key, declared.features.spec.key)
    order = pc.sort_indices(
        pa.table({"time": times, "key": keys}),
        sort_keys=[("time", "ascending"), ("key", "ascending")],
    )
    times_us = micros(times.take(order))
    if len(times_us) and times.null_count:
        raise ClientError(f"{path}: {columns.time}: expected a time in each row; found none")
    table, keys = _Table(path, table.rows.take(order)), keys.take(order)
    text_keys = objects(keys)
    return Source(
        text_keys,
        times_us,
        known := _known(table, columns, declared, times_us),
        _features(table, declared.features, text_keys, times_us),
        _labels(table, columns, declared, text_keys, known),
    )


def _features(
    table: "_Table", stream: StreamSpec, keys: Cells, times_us: Ints
) -> dict[str, Cells]:
    body = stream.spec
    given = {body.key: keys, body.event_time: rfc3339(times_us)}
    return given | {
        name: cells
        for name, field in body.fields.items()
        if name not in given and (cells := table.field(name, field)) is not None
    }


def _labels(
    table: "_Table", columns: Columns, declared: Declared, keys: Cells, known_us: Ints
) -> dict[str, Cells]:
    body, label = declared.labels.spec, declared.model.spec
    given = {body.event_time: rfc3339(known_us), body.key: keys, label.label.key: keys}
    named = {label.positive_field: columns.label}
    return given | {
        name: cells
        for name, field in body.fields.items()
        if name not in given
        and (cells := table.field(named.get(name, name), field)) is not None
    }


def _known(table: "_Table", columns: Columns, declared: Declared, times_us: Ints) -> Ints:
    """Return when each label is known: by column, by lag, or at the horizon at the latest."""
    labelled = declared.labels.spec.fields[declared.model.spec.positive_field]
    absent = _nulls(table.typed(columns.label, labelled.type))
    by_name = declared.labels.spec.event_time
    if columns.label_lag is not None:
        known = times_us + round(duration_seconds(columns.label_lag) * 1e6)
    elif columns.label_at is not None or by_name in table.rows.column_names:
        times = table.times(columns.label_at or by_name)
        absent = absent | _nulls(times)
        known = micros(times.fill_null(0))
    else:
        known = times_us + round(duration_seconds(declared.model.spec.label.horizon) * 1e6)
    result: Ints = np.where(absent, np.int64(NEVER), known)
    return result


@dataclass(frozen=True, slots=True)
class _Table:
    """Columns by name, with errors that name them."""

    path: Path
    rows: pa.Table

    def column(self, name: str) -> pa.ChunkedArray:
        if name not in self.rows.column_names:
            raise ClientError(
                f"{self.path}: expected a column {name!r}; found "
                f"{', '.join(self.rows.column_names)[:300]}"
            )
        return self.rows.column(name)

    def times(self, name: str) -> pa.ChunkedArray:
        return self.typed(name, FieldType.TIMESTAMP)

    def typed(self, name: str, kind: FieldType) -> pa.ChunkedArray:
        try:
            return typed(self.column(name), kind)
        except MisfitError as error:
            raise ClientError(f"{self.path}: {name}: {error}") from error

    def keys(self, name: str | None, field: str) -> pa.ChunkedArray:
        """Return the rows' keys: a column, or the row's number in the file."""
        wanted = name or field
        if name is None and field not in self.rows.column_names:
            numbers = [f"row-{at:09d}" for at in range(self.rows.num_rows)]
            return pa.chunked_array([pa.array(numbers, pa.string())])
        keys = self.typed(wanted, FieldType.STRING)
        if keys.null_count or pc.count_distinct(keys).as_py() != len(keys):
            raise ClientError(
                f"{self.path}: {wanted}: expected a key of its own in each row; found nulls or "
                "repetitions: name another column with --key"
            )
        return keys

    def field(self, column: str, field: StreamField) -> Cells | None:
        """Return a field's cells, or None when it may be left out and the file does."""
        if column not in self.rows.column_names and field.nullable:
            return None
        return cells(self.typed(column, field.type))


def _nulls(cells: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = cells.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    return mask


def _load(path: Path) -> pa.Table:
    file = File(path)
    if file.format is Format.NDJSON:
        raise ClientError(f"{path}: expected a CSV or Parquet file; found NDJSON: convert it")
    names = file.columns()
    tables = list(file.tables(names))
    nothing = pa.table({name: pa.array([], pa.string()) for name in names})
    return pa.concat_tables(tables) if tables else nothing
