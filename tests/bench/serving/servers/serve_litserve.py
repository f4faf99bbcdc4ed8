"""LitServe, one row a request, batched as it comes."""

import os
from typing import Any

import litserve
from onnx_rows import OnnxRows


class Bench(litserve.LitAPI):  # type: ignore[misc]
    """Answers {"x": row} with {"y": probabilities}."""

    def setup(self, _device: str) -> None:
        self.predict_rows = OnnxRows()

    def decode_request(self, request):  # typed, it would be read as a query
        return request["x"]

    def batch(self, inputs: Any) -> Any:
        return inputs

    def predict(self, x: Any) -> Any:
        return self.predict_rows(x)

    def unbatch(self, output: Any) -> Any:
        return list(output)

    def encode_response(self, output: Any) -> Any:
        return {"y": output.tolist()}


if __name__ == "__main__":
    litserve.LitServer(
        Bench(api_path="/predict", max_batch_size=64, batch_timeout=0.0),
        accelerator="cpu",
        workers_per_device=1,
        timeout=30,
    ).run(
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        num_api_servers=1,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
    )
