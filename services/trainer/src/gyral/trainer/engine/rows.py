"""Reads pinned tables and joins each row with the label known by then, never a later one."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from numpy.typing import NDArray

from gyral.contracts.specs.stream import FieldType
from gyral.modelling.columns import Bools, Column, Ints
from gyral.modelling.features import FeatureKind, FeatureSpec
from gyral.modelling.labels import LabelRule
from gyral.trainer.domain.splits import Split
from gyral.trainer.engine.order import TABLE_OPTIONS, Order, Table, TrainingRefusedError

_KINDS = {
    FieldType.STRING: FeatureKind.CATEGORICAL,
    FieldType.INTEGER: FeatureKind.NUMERIC,
    FieldType.NUMBER: FeatureKind.NUMERIC,
    FieldType.BOOLEAN: FeatureKind.BOOLEAN,
}


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a range of event time by (event time, key), with what was known of them."""

    columns: dict[str, Column]
    times: Ints
    """Event time in microseconds UTC, shape (n,)."""
    labelled: Bools
    positive: Bools
    """Means something only where `labelled`."""

    def __len__(self) -> int:
        return len(self.times)

    def where(self, kept: Bools | Ints) -> "Rows":
        """Return the rows a mask or an index picks."""
        return Rows(
            {name: column[kept] for name, column in self.columns.items()},
            self.times[kept],
            self.labelled[kept],
            self.positive[kept],
        )

    @property
    def with_label(self) -> "Rows":
        """Return the rows whose label was known."""
        return self.where(self.labelled)


@dataclass(frozen=True, slots=True)
class Known:
    """Labels in order of (row code, time known)."""

    codes: Ints
    times: Ints
    positive: Bools


def feature_specs(order: Order) -> tuple[FeatureSpec, ...]:
    """Return how the model's fields are read, from the stream's declaration.

    Raises:
        TrainingRefusedError: a field is not declared, or is a timestamp.
    """
    found = []
    for name in order.spec.features.fields:
        field = order.features.spec.fields.get(name)
        if field is None or field.type not in _KINDS:
            raise TrainingRefusedError(
                f"features.fields.{name}: expected a string, integer, number or boolean field "
                f"of stream {order.features.stream}; "
                f"found {'none' if field is None else field.type}"
            )
        found.append(FeatureSpec(name, _KINDS[field.type], field.nullable))
    return tuple(found)


def read_rows(order: Order, split: Split, fields: Iterable[str]) -> tuple[Rows, Rows]:
    """Return the training rows and the window's rows, each with the labels known in time.

    Args:
        order: which tables, and what a label is.
        split: the ranges of event time.
        fields: columns of the feature stream to bring along.

    Raises:
        TrainingRefusedError: a table lacks a declared column.
    """
    names = [name for name in dict.fromkeys(fields) if name in order.features.spec.fields]
    features = _read_features(order, split, names)
    codes, known = _read_labels(order, split, features)
    times = _times(features, order.features.spec.event_time)
    columns = {name: _column(features, name) for name in names}

    def rows(start: int, end: int, known_by: int) -> Rows:
        kept = slice(*np.searchsorted(times, [start, end]).tolist())
        limits = np.minimum(times[kept] + split.horizon, known_by)
        labelled, positive = latest_known(codes[kept], limits, known)
        cut = {name: column[kept] for name, column in columns.items()}
        return Rows(cut, times[kept], labelled, positive)

    training = rows(split.train_start, split.trained_until, split.trained_until)
    return training.with_label, rows(split.window_start, split.window_end, split.as_of)


def latest_known(codes: Ints, limits: Ints, known: Known) -> tuple[Bools, Bools]:
    """Find for each row the newest label known at or before its limit.

    Args:
        codes: what identifies each row, shape (n,), all >= 0.
        limits: event time in microseconds until which a label counts, shape (n,).
        known: labels, sorted by (code, time).

    Returns:
        Whether each row has a label, and whether it is positive; both shape (n,).
    """
    if not len(known.codes):
        return np.zeros(len(codes), np.bool_), np.zeros(len(codes), np.bool_)
    moments = np.unique(np.concatenate([known.times, limits]))
    width = len(moments)
    sorted_keys = known.codes * width + np.searchsorted(moments, known.times)
    wanted = codes * width + np.searchsorted(moments, limits)
    at = np.searchsorted(sorted_keys, wanted, side="right") - 1
    labelled = (at >= 0) & (known.codes[at] == codes)
    return labelled, labelled & known.positive[at]


def _read_features(order: Order, split: Split, names: list[str]) -> pa.Table:
    spec = order.features.spec
    wanted = dict.fromkeys((spec.key, spec.event_time, *names))
    table = _read(order.features, list(wanted), split.window_end)
    return table.sort_by([(spec.event_time, "ascending"), (spec.key, "ascending")])


def _read_labels(order: Order, split: Split, features: pa.Table) -> tuple[Ints, Known]:
    """Return the code of each feature row and the known labels of those rows."""
    spec, label = order.labels.spec, order.spec.label
    rule = LabelRule.parse(label.positive)
    wanted = dict.fromkeys((label.key, spec.event_time, rule.field))
    table = _read(order.labels, list(wanted), split.as_of + 1)
    distinct = pc.unique(features[order.features.spec.key])
    codes = pc.index_in(features[order.features.spec.key], value_set=distinct)
    matched = pc.index_in(table[label.key], value_set=distinct)
    table = table.append_column("__code", matched).filter(pc.is_valid(matched))
    found = rule.evaluate({rule.field: _column(table, rule.field)})
    label_codes = table["__code"].to_numpy().astype(np.int64)
    times = _times(table, spec.event_time)
    order_of = np.lexsort((found.positive, times, label_codes))
    order_of = order_of[found.known[order_of]]
    known = Known(label_codes[order_of], times[order_of], found.positive[order_of])
    return codes.to_numpy().astype(np.int64), known


def _read(table: Table, columns: list[str], before_us: int) -> pa.Table:
    """Return the rows of a pinned table whose event time lies before a moment."""
    remote = table.uri.startswith("s3://")
    options = json.loads(os.environ.get(TABLE_OPTIONS, "{}")) if remote else None
    delta = DeltaTable(table.uri, version=table.version, storage_options=options)
    dataset = delta.to_pyarrow_dataset()
    missing = [name for name in columns if name not in dataset.schema.names]
    if missing:
        raise TrainingRefusedError(
            f"table of stream {table.stream} at version {table.version}: expected columns "
            f"{', '.join(columns)}; found no {', '.join(missing)}"
        )
    time = table.spec.event_time
    limit = pa.scalar(before_us, pa.timestamp("us", tz="UTC")).cast(
        dataset.schema.field(time).type
    )
    return dataset.to_table(columns=columns, filter=pc.field(time) < limit)


def _times(table: pa.Table, name: str) -> Ints:
    moments = table[name].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64())
    return np.asarray(moments.to_numpy(), dtype=np.int64)


def _column(table: pa.Table, name: str) -> Column:
    """Return a column as numpy holds it: missing is NaN among numbers, None among texts."""
    cells = table[name]
    if pa.types.is_boolean(cells.type) or pa.types.is_integer(cells.type):
        return np.asarray(cells.cast(pa.float64()).to_numpy(), dtype=np.float64)
    if pa.types.is_floating(cells.type):
        return np.asarray(cells.to_numpy(), dtype=np.float64)
    return _texts(cells)


def _texts(cells: pa.ChunkedArray) -> NDArray[np.object_]:
    """Decode through a dictionary, so that equal texts are one object."""
    encoded = cells.combine_chunks().cast(pa.string()).dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries().combine_chunks()
    listed = np.array([*encoded.dictionary.to_pylist(), None], dtype=object)
    indices = pc.fill_null(encoded.indices, len(listed) - 1).to_numpy(zero_copy_only=False)
    texts: NDArray[np.object_] = listed[indices]
    return texts
