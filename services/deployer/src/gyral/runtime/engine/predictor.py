"""One version of a model in memory: raw columns in, a probability a row out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from gyral.modelling.columns import Column, ColumnError, Columns
from gyral.modelling.documents import DocumentError
from gyral.modelling.features import Block, Encoding, FeatureKind
from gyral.modelling.manifest import Manifest, OnnxModel
from gyral.runtime.engine.errors import PredictionError, UnusableModelError
from gyral.runtime.engine.networks import TorchNetwork
from gyral.runtime.engine.sessions import Session

_TREE_BATCH = 64
"""Rows a call for tree ensembles: 512 at once cost onnxruntime three times as much a row."""
_OWN_BYTES = 256 << 10
"""What any session takes beside its model."""
_OUTPUT_AXES = 2
_ROUNDING = 1e-6
"""How far beyond [0, 1] float32 arithmetic may end up."""


class Model(Protocol):
    """What answers to an encoded matrix, whatever the format."""

    def run(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return P(positive) of n rows, shape (n,) or (n, 1); raises PredictionError."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """A manifest and the model that it describes."""

    manifest: Manifest
    model: Model

    @classmethod
    def of(cls, manifest: bytes, model: bytes, code: bytes | None = None) -> Self:
        """Return the predictor that these files describe.

        Args:
            manifest: which says the model's format.
            model: the ONNX file, or the weights.
            code: the sources that build the weights' network, which run in this process.

        Raises:
            UnusableModelError: the manifest is off, or the others are not what it says.
        """
        try:
            read = Manifest.from_json(manifest)
        except DocumentError as error:
            raise UnusableModelError(str(error)) from error
        described = read.model_file
        if isinstance(described, OnnxModel):
            if code is not None:
                raise UnusableModelError("manifest.json: expected torch, as there is code.zip")
            return cls(read, Session.of(described, model))
        if code is None:
            raise UnusableModelError("code.zip: expected the network's sources; found none")
        width = len(read.transform.outputs)
        return cls(read, TorchNetwork.of(described, model, code, width=width))

    @property
    def memory_bytes(self) -> int:
        """What it takes, measured: trees unpack to five times their file, weights to twice."""
        times = 6 if self._of_trees else 2
        return times * self.manifest.model_file.size_bytes + _OWN_BYTES

    @property
    def _of_trees(self) -> bool:
        return self.manifest.encoding is Encoding.ORDINAL

    def predict(self, columns: Columns | Block) -> NDArray[np.float64]:
        """Return the probability of the positive class, shape (n,).

        Raises:
            PredictionError: a column is absent or of another type, or a row got no probability.
        """
        try:
            matrix = self.manifest.transform.apply(columns)
        except ColumnError as error:
            raise PredictionError(str(error)) from error
        step = _TREE_BATCH if self._of_trees else max(len(matrix), 1)
        if 0 < len(matrix) <= step:
            return self._run(matrix)
        parts = [self._run(matrix[at : at + step]) for at in range(0, len(matrix), step)]
        return np.concatenate(parts) if parts else np.empty(0)

    def predict_lists(self, columns: Mapping[str, Sequence[object]]) -> NDArray[np.float64]:
        """Return the same for columns given as lists with None for missing; raises alike."""
        return self.predict(
            {
                declared.name: column_of(columns[declared.name], declared.kind)
                for declared in self.manifest.inputs
                if declared.name in columns
            }
        )

    def _run(self, matrix: NDArray[np.float32]) -> NDArray[np.float64]:
        found = self.model.run(matrix)
        if found.ndim == _OUTPUT_AXES and found.shape[1] == 1:
            found = found[:, 0]
        if found.shape != (len(matrix),):
            raise PredictionError(
                f"model: expected {len(matrix)} rows, found shape {found.shape}"
            )
        probabilities = found.astype(np.float64)
        least, most = np.minimum.reduce(probabilities), np.maximum.reduce(probabilities)
        if not (least >= -_ROUNDING and most <= 1.0 + _ROUNDING):  # nor is a NaN in between
            raise _no_probability(probabilities)
        inside = least >= 0.0 and most <= 1.0
        return probabilities if inside else probabilities.clip(0.0, 1.0)


def _no_probability(found: NDArray[np.float64]) -> PredictionError:
    """Return what to say of the first row that got none."""
    bad = ~((found >= -_ROUNDING) & (found <= 1.0 + _ROUNDING))
    row = int(bad.argmax())
    return PredictionError(f"row {row}: expected a probability in [0, 1], found {found[row]}")


def column_of(cells: Sequence[object], kind: FeatureKind) -> Column:
    """Return cells as a raw column; numbers as float64 with NaN for missing."""
    if kind is FeatureKind.NUMERIC and not any(isinstance(cell, str | bool) for cell in cells):
        return np.array([np.nan if cell is None else cell for cell in cells], dtype=np.float64)
    column = np.empty(len(cells), dtype=object)
    column[:] = cells
    return column
