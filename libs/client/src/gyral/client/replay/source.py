"""A CSV or Parquet file as the two streams it stands for: columns in order of time and key."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from gyral.client.errors import ClientError
from gyral.client.replay.schedule import NEVER
from gyral.client.replay.variants import Declared
from gyral.contracts.specs.document import duration_seconds
from gyral.contracts.specs.stream import FieldType, StreamField, StreamSpec
from gyral.modelling.columns import Column, Ints

Cells = Column
_TIME = pa.timestamp("us", tz="UTC")
_INT64 = pa.int64()


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
    times_us = _micros(times.take(order))
    if len(times_us) and times.null_count:
        raise ClientError(f"{path}: {columns.time}: expected a time in each row; found none")
    table, keys = _Table(path, table.rows.take(order)), keys.take(order)
    text_keys = _objects(keys)
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
        if name not in given and (cells := table.field(name, name, field)) is not None
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
        and (cells := table.field(named.get(name, name), name, field)) is not None
    }


def _known(table: "_Table", columns: Columns, declared: Declared, times_us: Ints) -> Ints:
    """Return when each label is known: by column, by lag, or at the horizon at the latest."""
    absent = _nulls(table.column(columns.label))
    by_name = declared.labels.spec.event_time
    if columns.label_lag is not None:
        known = times_us + round(duration_seconds(columns.label_lag) * 1e6)
    elif columns.label_at is not None or by_name in table.rows.column_names:
        times = table.times(columns.label_at or by_name)
        absent = absent | _nulls(times)
        known = _micros(times.fill_null(0))
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
        column = self.column(name)
        try:
            return column.cast(_TIME)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ClientError(
                f"{self.path}: {name}: expected times such as 2013-01-01T05:15:00Z; found "
                f"{column.type}: {str(error)[:120]}"
            ) from error

    def keys(self, name: str | None, field: str) -> pa.ChunkedArray:
        """Return the rows' keys: a column, or the row's number in the file."""
        wanted = name or field
        if name is None and field not in self.rows.column_names:
            numbers = [f"row-{at:09d}" for at in range(self.rows.num_rows)]
            return pa.chunked_array([pa.array(numbers, pa.string())])
        keys = self.column(wanted).cast(pa.string())
        if keys.null_count or pc.count_distinct(keys).as_py() != len(keys):
            raise ClientError(
                f"{self.path}: {wanted}: expected a key of its own in each row; found nulls or "
                "repetitions: name another column with --key"
            )
        return keys

    def field(self, column: str, name: str, field: StreamField) -> Cells | None:
        """Return a field's cells, or None when it may be left out and the file does."""
        if column not in self.rows.column_names and field.nullable:
            return None
        cells = self.column(column)
        try:
            return _CELLS[field.type](cells)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ClientError(
                f"{self.path}: {column}: expected values for {name}, a {field.type}; found "
                f"{cells.type}: {str(error)[:120]}"
            ) from error


def rfc3339(times_us: Ints) -> Cells:
    """Return times as text with an offset, shape (n,)."""
    texts = np.datetime_as_string(times_us.astype("datetime64[us]"), timezone="UTC")
    cells: Cells = texts.astype(object)
    return cells


def _integers(cells: pa.ChunkedArray) -> Cells:
    numbers = cells.cast(_INT64)
    return _objects(numbers) if numbers.null_count else _plain(numbers)


def _objects(cells: pa.ChunkedArray) -> Cells:
    objects = np.empty(len(cells), dtype=object)
    objects[:] = cells.to_pylist()
    return objects


def _plain(cells: pa.ChunkedArray) -> Cells:
    numbers: Cells = cells.to_numpy(zero_copy_only=False)
    return numbers


def _nulls(cells: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = cells.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    return mask


def _micros(times: pa.ChunkedArray) -> Ints:
    micros: Ints = times.cast(_INT64).to_numpy(zero_copy_only=False)
    return micros


_CELLS: Mapping[FieldType, Callable[[pa.ChunkedArray], Cells]] = {
    FieldType.STRING: lambda cells: _objects(cells.cast(pa.string())),
    FieldType.INTEGER: _integers,
    # A null becomes NaN here, and null again in JSON.
    FieldType.NUMBER: lambda cells: _plain(cells.cast(pa.float64())),
    FieldType.BOOLEAN: lambda cells: _objects(cells.cast(pa.bool_())),
    FieldType.TIMESTAMP: lambda cells: rfc3339(_micros(cells.cast(_TIME))),
}


def _load(path: Path) -> pa.Table:
    try:
        if path.suffix.lower() in {".parquet", ".pq"}:
            return pyarrow.parquet.read_table(path)
        return pyarrow.csv.read_csv(path)
    except FileNotFoundError as error:
        raise ClientError(f"{path}: expected a CSV or Parquet file; found nothing") from error
    except (OSError, pa.ArrowInvalid) as error:
        raise ClientError(
            f"{path}: expected a CSV or Parquet file; found {str(error)[:160]}"
        ) from error
