"""MLflow's scoring server on its ONNX flavour, two workers, as more than one was faster."""

import os
import sys
from pathlib import Path

import mlflow.onnx
import numpy as np
import onnx
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec

if __name__ == "__main__":
    rows = TensorSpec(np.dtype(np.float32), (-1, 12))
    mlflow.onnx.save_model(
        onnx.load(os.environ["MODEL"]), "saved", signature=ModelSignature(inputs=Schema([rows]))
    )
    os.environ |= {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "1",
        "GIT_PYTHON_REFRESH": "quiet",
    }
    options = ["--env-manager", "local", "--host", "127.0.0.1", "--port", os.environ["PORT"]]
    os.execv(  # noqa: S606 - no shell is wanted
        Path(sys.executable).parent / "mlflow",
        ["mlflow", "models", "serve", "--model-uri", "saved", *options, "--workers", "2"],
    )
