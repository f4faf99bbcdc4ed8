"""Rows counted into a version's reference bins, block by block."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np

from gyral.kit.telemetry import get_log
from gyral.modelling.columns import ColumnError, Columns, Ints
from gyral.modelling.histograms import ReferenceBins
from gyral.monitor.engine.records import Cell

log = get_log()
_decode = msgspec.json.Decoder(dict[str, list[Cell]]).decode


@dataclass(frozen=True, slots=True)
class Rows:
    """Some rows of one answered request."""

    features: bytes
    """JSON of the columns, all rows of the request in each."""
    rows: Sequence[int]
    blocks_us: Sequence[int]
    """Start of each row's block."""


def count(bins: ReferenceBins, requests: Sequence[Rows]) -> dict[int, Ints]:
    """Count rows per block and cell: by block start, each shape (cells,).

    A request whose columns do not fit the bins is left out whole, and only it, so that what is
    counted does not depend on which requests came together.
    """
    if not requests:
        return {}
    try:
        return _count(bins, requests)
    except ColumnError:
        fitting = [request for request in requests if _fits(bins, request)]
        return _count(bins, fitting) if fitting else {}


def _count(bins: ReferenceBins, requests: Sequence[Rows]) -> dict[int, Ints]:
    blocks = np.array([block for it in requests for block in it.blocks_us], np.int64)
    found, counts = bins.count_blocks(_columns(bins, requests), blocks)
    return dict(zip(found.tolist(), counts, strict=True))


def _columns(bins: ReferenceBins, requests: Sequence[Rows]) -> Columns:
    cells: Mapping[str, list[Cell]] = {name: [] for name in bins.names}
    for request in requests:
        try:
            features = _decode(request.features)
        except msgspec.DecodeError as error:
            raise ColumnError(f"features: {error}") from error
        for name, column in cells.items():
            given = features.get(name, [])
            if len(given) <= max(request.rows):
                raise ColumnError(f"{name}: expected a cell a row, found {len(given)}")
            column.extend(
                given if len(given) == len(request.rows) else [given[r] for r in request.rows]
            )
    return {name: _column(column) for name, column in cells.items()}


def _column(cells: Sequence[Cell]) -> "np.typing.NDArray[np.object_]":
    column = np.empty(len(cells), dtype=np.object_)
    column[:] = cells
    return column


def _fits(bins: ReferenceBins, request: Rows) -> bool:
    try:
        _count(bins, [request])
    except ColumnError as error:
        log.warning("features.unfit", reason=str(error)[:200])
        return False
    return True
