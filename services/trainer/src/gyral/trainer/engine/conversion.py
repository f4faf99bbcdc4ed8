"""What makes a converted model fit to ship: one input, output and file, and equal answers."""

from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper

from gyral.contracts.evaluation import Parity
from gyral.modelling.columns import Floats
from gyral.trainer.engine.order import TrainingRefusedError

OUTPUT = "probability"
TOLERANCE = 1e-4
SHARE_WITHIN = 0.999
MEAN_WITHIN = 1e-5
BATCH_ROWS = 4096


@dataclass(frozen=True, slots=True)
class Session:
    """A shipped model as a runtime would hold it."""

    runtime: onnxruntime.InferenceSession
    input: str
    output: str

    def probabilities(self, matrix: NDArray[np.float32]) -> Floats:
        """Return P(positive) of each row, shape (n,)."""
        parts = [
            self.runtime.run([self.output], {self.input: matrix[start : start + BATCH_ROWS]})[0]
            for start in range(0, len(matrix), BATCH_ROWS)
        ]
        return np.concatenate(parts or [np.empty(0)]).astype(np.float64)


def load(model: bytes) -> Session:
    """Load a model single-threaded, with one input and one output.

    Raises:
        TrainingRefusedError: it has more of either.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    inputs = [it.name for it in session.get_inputs()]
    outputs = [it.name for it in session.get_outputs()]
    if len(inputs) != 1 or len(outputs) != 1:
        raise TrainingRefusedError(
            f"onnx: expected one input and one output; found {inputs} and {outputs}"
        )
    return Session(session, inputs[0], outputs[0])


def only_positive_class(model: onnx.ModelProto) -> onnx.ModelProto:
    """Reduce a classifier's outputs to P(positive), shape [n], inside the graph."""
    graph = model.graph
    graph.initializer.extend(
        [helper.make_tensor("positive_column", TensorProto.INT64, [], [1])]
    )
    graph.node.append(
        helper.make_node("Gather", ["probabilities", "positive_column"], [OUTPUT], axis=1)
    )
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["rows"]))
    return model


def single_file(model: onnx.ModelProto) -> bytes:
    """Return a checked model's bytes.

    Raises:
        TrainingRefusedError: it refers to data outside itself.
        onnx.checker.ValidationError: it is no valid model.
    """
    outside = [
        it.name for it in model.graph.initializer if it.data_location == TensorProto.EXTERNAL
    ]
    if outside:
        raise TrainingRefusedError(
            f"onnx: expected one file; found outside data of {outside[0]}"
        )
    onnx.checker.check_model(model, full_check=True)
    text: bytes = model.SerializeToString(deterministic=True)
    return text


def compare(native: Floats, shipped: Floats) -> Parity:
    """Compare the answers of the fitted model with those of the shipped one, row by row.

    Raises:
        TrainingRefusedError: too many rows differ, or all do a little: it converted wrong.
    """
    apart = np.abs(native - shipped)
    apart[np.isnan(apart)] = 1.0
    parity = Parity(
        rows=len(apart),
        largest=float(apart.max()),
        mean=float(apart.mean()),
        share_within=float((apart <= TOLERANCE).mean()),
        tolerance=TOLERANCE,
    )
    if parity.share_within < SHARE_WITHIN or parity.mean > MEAN_WITHIN:
        raise TrainingRefusedError(
            f"shipped model: expected {SHARE_WITHIN:.1%} of {parity.rows} rows within "
            f"{TOLERANCE} of the fitted model and a mean difference of at most {MEAN_WITHIN}; "
            f"found {parity.share_within:.2%}, mean {parity.mean:.2e}, largest "
            f"{parity.largest:.3g}"
        )
    return parity
