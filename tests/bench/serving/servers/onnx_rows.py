"""onnxruntime as every peer runs it: one thread, float32 rows in, probabilities out."""

import os
from typing import Any

import numpy as np
import onnxruntime


class OnnxRows:
    """The model that the environment names."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(os.environ["MODEL"], options)

    def __call__(self, rows: Any) -> Any:
        """Return the probabilities of both classes, shape (n, 2)."""
        matrix = np.asarray(rows, dtype=np.float32)
        return self._session.run(["probabilities"], {"x": matrix})[0]
