"""The versions in memory, by slot; read from the threads that answer, changed by the loader."""

import threading
from array import array
from dataclasses import dataclass

import numpy as np

from gyral.kit.frames import Batch, Rows
from gyral.modelling.columns import Column
from gyral.runtime.engine.predictor import Predictor


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
        columns = {
            name: _joined(batch.requests, place) for place, name in enumerate(batch.names)
        }
        return loaded.predictor.predict(columns).astype("<f8", copy=False).tobytes()


def _joined(requests: list[Rows], place: int) -> Column:
    parts = [rows.columns[place] for rows in requests]
    if all(isinstance(part, bytes) for part in parts):
        return np.frombuffer(b"".join(parts), dtype="<f8")  # type: ignore[arg-type]
    cells: list[object] = []
    for part in parts:
        cells.extend(array("d", part) if isinstance(part, bytes) else part)
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column
