"""KServe's Python server, protocol V1, one worker."""

import os
from typing import Any

from kserve import Model, ModelServer
from onnx_rows import OnnxRows


class Bench(Model):  # type: ignore[misc]
    """Answers {"instances": rows} with {"predictions": probabilities}."""

    def load(self) -> bool:
        self.predict_rows = OnnxRows()
        self.ready = True
        return True

    async def predict(self, payload: Any, *_: Any, **__: Any) -> Any:
        return {"predictions": self.predict_rows(payload["instances"]).tolist()}


if __name__ == "__main__":
    bench = Bench("bench")
    bench.load()
    ModelServer(
        http_port=int(os.environ["PORT"]),
        enable_grpc=False,
        workers=1,
        access_log_format=None,
        enable_latency_logging=False,
    ).start([bench])
