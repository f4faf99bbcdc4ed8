"""BentoML with its own batching, one worker."""

import os
import sys
from pathlib import Path

import bentoml
import numpy as np
from onnx_rows import OnnxRows


@bentoml.service(
    name="bench",
    workers=1,
    traffic={"timeout": 30, "max_concurrency": 512},
    logging={"access": {"enabled": False}},
)
class Bench:
    """Answers {"x": rows} with the probabilities."""

    def __init__(self) -> None:
        self.predict_rows = OnnxRows()

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    def predict(self, x: np.ndarray) -> np.ndarray:
        answers: np.ndarray = self.predict_rows(x)
        return answers


if __name__ == "__main__":
    os.environ |= {
        "BENTOML_HOME": str(Path.cwd()),
        "BENTOML_DO_NOT_TRACK": "True",
        "PYTHONPATH": str(Path(__file__).parent),
    }
    where = ["--host", "127.0.0.1", "--port", os.environ["PORT"], "--quiet"]
    os.execv(  # noqa: S606 - no shell is wanted
        Path(sys.executable).parent / "bentoml",
        ["bentoml", "serve", "serve_bentoml:Bench", *where],
    )
