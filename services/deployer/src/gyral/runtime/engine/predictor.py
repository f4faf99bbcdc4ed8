"""One version of a model in memory: raw columns in, a probability a row out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gyral.modelling.columns import Column, ColumnError, Columns
from gyral.modelling.documents import DocumentError
from gyral.modelling.features import Block, Encoding, FeatureKind
from gyral.modelling.manifest import Manifest

_TREE_BATCH = 64
"""Rows a call for tree ensembles: 512 at once cost onnxruntime three times as much a row."""
_OWN_BYTES = 256 << 10
"""What any session takes beside its model."""
_OUTPUT_AXES = 2
_PATH = re.compile(r"\S*/\S*")
_ROUNDING = 1e-6
"""How far beyond [0, 1] float32 arithmetic may end up."""


class UnusableModelError(ValueError):
    """The files do not make a model that can serve."""


class DamagedModelError(UnusableModelError):
    """The files are no longer those that made a model; to read them again changes nothing."""


class PredictionError(ValueError):
    """The model gave no usable answer to these rows."""


@dataclass(frozen=True, slots=True)
class Predictor:
    """A manifest and its ONNX session, on one thread: a batch is too small to share."""

    manifest: Manifest
    session: onnxruntime.InferenceSession

    @classmethod
    def of(cls, manifest: bytes, onnx: bytes) -> Self:
        """Return the predictor that these two files describe.

        Raises:
            UnusableModelError: the manifest is off, or onnxruntime cannot load the bytes.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # An arena keeps half a megabyte a model more, and gives nothing back when one goes.
        options.enable_cpu_mem_arena = False
        try:
            read = Manifest.from_json(manifest)
            session = onnxruntime.InferenceSession(
                onnx, options, providers=["CPUExecutionProvider"]
            )
        except DocumentError as error:
            raise UnusableModelError(str(error)) from error
        except Exception as error:  # onnxruntime's errors share no base class of their own
            raise UnusableModelError(f"model.onnx: {_first_line(error)}") from error
        _check_ports(read, session)
        return cls(read, session)

    @property
    def memory_bytes(self) -> int:
        """What it takes, measured: trees unpack to five times their file, weights to twice."""
        times = 6 if self._of_trees else 2
        return times * self.manifest.onnx.size_bytes + _OWN_BYTES

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
        onnx = self.manifest.onnx
        try:
            [output] = self.session.run([onnx.output], {onnx.input: matrix})
        except Exception as error:  # onnxruntime's errors share no base class of their own
            raise PredictionError(f"onnxruntime: {_first_line(error)}") from error
        found = cast(NDArray[np.float32], output)
        if found.ndim == _OUTPUT_AXES:
            found = found[:, onnx.positive_column if found.shape[1] > 1 else 0]
        if found.shape != (len(matrix),):
            raise PredictionError(
                f"{onnx.output}: expected {len(matrix)} rows, found shape {found.shape}"
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


def _check_ports(manifest: Manifest, session: onnxruntime.InferenceSession) -> None:
    inputs = [port.name for port in session.get_inputs()]
    outputs = [port.name for port in session.get_outputs()]
    if inputs != [manifest.onnx.input]:
        raise UnusableModelError(
            f"model.onnx: expected the one input {manifest.onnx.input!r}, found {inputs}"
        )
    if manifest.onnx.output not in outputs:
        raise UnusableModelError(
            f"model.onnx: expected an output {manifest.onnx.output!r}, found {outputs}"
        )


def _first_line(error: Exception) -> str:
    """Return what onnxruntime says, without the paths of its sources: callers are told it."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return _PATH.sub("...", first)[:300]
