"""The versions in memory, by slot; read from the threads that answer, changed by the loader."""

import threading
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from gyral.kit.frames import Batch, Rows
from gyral.modelling.columns import Column, Columns
from gyral.modelling.features import Block
from gyral.runtime.engine.predictor import Predictor

_Cells: TypeAlias = "bytes | list[str | bool | None]"


class NotLoadedError(LookupError):
    """The slot holds nothing, or other bytes than those asked for."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A predictor with the digest of its ONNX bytes."""

    sha256: str
    predictor: Predictor


class Shelf:
    """What can answer now."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._slots: dict[str, Loaded] = {}

    def put(self, slot: str, loaded: Loaded) -> None:
        """Have a slot answer from now on."""
        with self._lock:
            self._slots = {**self._slots, slot: loaded}

    def drop(self, slot: str) -> None:
        """Have a slot answer no more; batches under way end in peace."""
        with self._lock:
            self._slots = {name: loaded for name, loaded in self._slots.items() if name != slot}

    def answer(self, batch: Batch) -> bytes:
        """Return one little-endian float64 a row, for all requests of a batch in their order.

        Raises:
            NotLoadedError: the slot does not hold the bytes that the batch asks for.
            PredictionError: they gave no usable answer.
        """
        loaded = self._slots.get(batch.slot)
        if loaded is None or loaded.sha256 != batch.sha256:
            found = "nothing" if loaded is None else f"sha256 {loaded.sha256[:12]}"
            raise NotLoadedError(
                f"{batch.slot}: expected sha256 {batch.sha256[:12]}; found {found}"
            )
        return loaded.predictor.predict(_columns_of(batch)).astype("<f8", copy=False).tobytes()


def _columns_of(batch: Batch) -> Columns | Block:
    """Return the rows of all requests together."""
    blocks = [rows.columns for rows in batch.requests if isinstance(rows.columns, bytes)]
    if len(blocks) == len(batch.requests):
        cells = np.frombuffer(b"".join(blocks), dtype="<f8")
        return Block(batch.names, cells.reshape(-1, len(batch.names)))
    apart = [_apart(rows, len(batch.names)) for rows in batch.requests]
    return {name: _joined(apart, place) for place, name in enumerate(batch.names)}


def _apart(rows: Rows, width: int) -> Sequence[_Cells]:
    """Return a request's cells column by column, however they came."""
    if not isinstance(rows.columns, bytes):
        return rows.columns
    block = np.frombuffer(rows.columns, dtype="<f8").reshape(-1, width)
    return [block[:, place].tobytes() for place in range(width)]


def _joined(requests: Sequence[Sequence[_Cells]], place: int) -> Column:
    parts = [columns[place] for columns in requests]
    if all(isinstance(part, bytes) for part in parts):
        return np.frombuffer(b"".join(parts), dtype="<f8")  # type: ignore[arg-type]
    cells: list[object] = []
    for part in parts:
        cells.extend(array("d", part) if isinstance(part, bytes) else part)
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column
