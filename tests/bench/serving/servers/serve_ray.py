"""Ray Serve with one replica, one row a request, batched as it comes."""

import os
import signal
from pathlib import Path
from typing import Any

import ray
from onnx_rows import OnnxRows
from ray import serve
from starlette.responses import JSONResponse

PASSED_ON = ("MODEL", "OMP_NUM_THREADS")


@serve.deployment(num_replicas=1, max_ongoing_requests=256, ray_actor_options={"num_cpus": 0.2})
class Bench:
    """Answers {"x": row} with {"y": probabilities}."""

    def __init__(self) -> None:
        self.predict_rows = OnnxRows()

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.0)
    async def together(self, rows: Any) -> Any:
        return self.predict_rows(rows).tolist()

    async def __call__(self, request: Any) -> Any:
        return JSONResponse({"y": await self.together((await request.json())["x"])})


if __name__ == "__main__":
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_SERVE_LOG_TO_STDERR": "0"}
    passed = {name: os.environ[name] for name in PASSED_ON}
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        logging_level="warning",
        runtime_env={"env_vars": {**passed, "PYTHONPATH": str(Path(__file__).parent)}},
        object_store_memory=200 << 20,
    )
    serve.start(
        http_options={"host": "127.0.0.1", "port": int(os.environ["PORT"])},
        logging_config={"enable_access_log": False},
    )
    serve.run(
        Bench.bind(),  # type: ignore[attr-defined]
        name="bench",
        route_prefix="/predict",
    )
    signal.pause()
