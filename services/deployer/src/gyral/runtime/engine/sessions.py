"""An ONNX file as onnxruntime holds it: one thread, one float32 input, its probabilities."""

import re
from dataclasses import dataclass
from typing import Self, cast

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from gyral.modelling.manifest import OnnxModel
from gyral.runtime.engine.errors import PredictionError, UnusableModelError

_CLASS_AXES = 2
_PATH = re.compile(r"\S*/\S*")


@dataclass(frozen=True, slots=True)
class Session:
    """What answers for a version that is ONNX, on one thread: a batch is too small to share."""

    onnx: OnnxModel
    runtime: onnxruntime.InferenceSession

    @classmethod
    def of(cls, onnx: OnnxModel, file: bytes) -> Self:
        """Return the session of a file.

        Raises:
            UnusableModelError: onnxruntime cannot load it, or it has other inputs and outputs.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # An arena keeps half a megabyte a model more, and gives nothing back when one goes.
        options.enable_cpu_mem_arena = False
        try:
            session = onnxruntime.InferenceSession(
                file, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # onnxruntime's errors share no base class of their own
            raise UnusableModelError(f"model.onnx: {_first_line(error)}") from error
        _check_ports(onnx, session)
        return cls(onnx, session)

    def run(self, matrix: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the positive class's output for n rows; raises PredictionError."""
        onnx = self.onnx
        try:
            [output] = self.runtime.run([onnx.output], {onnx.input: matrix})
        except Exception as error:  # onnxruntime's errors share no base class of their own
            raise PredictionError(f"onnxruntime: {_first_line(error)}") from error
        found = cast(NDArray[np.float32], output)
        several = found.ndim == _CLASS_AXES and found.shape[1] > 1
        return found[:, onnx.positive_column] if several else found


def _check_ports(onnx: OnnxModel, session: onnxruntime.InferenceSession) -> None:
    inputs = [port.name for port in session.get_inputs()]
    outputs = [port.name for port in session.get_outputs()]
    if inputs != [onnx.input]:
        raise UnusableModelError(
            f"model.onnx: expected the one input {onnx.input!r}, found {inputs}"
        )
    if onnx.output not in outputs:
        raise UnusableModelError(
            f"model.onnx: expected an output {onnx.output!r}, found {outputs}"
        )


def _first_line(error: Exception) -> str:
    """Return what onnxruntime says, without the paths of its sources: callers are told it."""
    first = (str(error).splitlines() or [type(error).__name__])[0]
    return _PATH.sub("...", first)[:300]
