"""MLServer, protocol V2, in one process and without its batching: its fastest form here."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse
from onnx_rows import OnnxRows


class Bench(MLModel):  # type: ignore[misc]
    """Answers the one input with the tensor of probabilities."""

    async def load(self) -> bool:
        self.predict_rows = OnnxRows()
        return True

    async def predict(self, payload: Any) -> Any:
        rows = NumpyCodec.decode_input(payload.inputs[0])
        output = NumpyCodec.encode_output("probabilities", self.predict_rows(rows))
        return InferenceResponse(model_name=self.name, outputs=[output])


if __name__ == "__main__":
    port = int(os.environ["PORT"])
    server = {
        "debug": False,
        "host": "127.0.0.1",
        "http_port": port,
        "grpc_port": port + 1,
        "metrics_port": port + 2,
        "parallel_workers": 0,
        "use_structured_logging": False,
        "logging_settings": None,
    }
    model = {"name": "bench", "implementation": "serve_mlserver.Bench"}
    Path("settings.json").write_text(json.dumps(server))
    Path("model-settings.json").write_text(json.dumps(model))
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)
    os.execv(Path(sys.executable).parent / "mlserver", ["mlserver", "start", "."])  # noqa: S606
