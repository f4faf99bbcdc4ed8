"""The ceiling: JSON in, onnxruntime, JSON out, on raw ASGI; nothing else is done."""

import asyncio
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import orjson
import uvicorn

HEADERS = [(b"content-type", b"application/json")]


class Ceiling:
    """Answers {"x": rows}; requests of one tick of the loop are computed together."""

    def __init__(self, model: bytes) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(model, options)
        self._waiting: list[tuple[list[Any], asyncio.Future[Any]]] = []

    async def __call__(self, _scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._answer)
        self._waiting.append((orjson.loads(body)["x"], future))
        answer = orjson.dumps({"y": await future})
        headers = [*HEADERS, (b"content-length", b"%d" % len(answer))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _answer(self) -> None:
        waiting, self._waiting = self._waiting, []
        matrix = np.array([row for rows, _ in waiting for row in rows], dtype=np.float32)
        parts = [
            self._session.run(["probabilities"], {"x": matrix[at : at + 64]})[0][:, 1]
            for at in range(0, len(matrix), 64)
        ]
        found = np.concatenate(parts).tolist()
        start = 0
        for rows, future in waiting:
            end = start + len(rows)
            future.set_result(found[start:end])
            start = end


if __name__ == "__main__":
    uvicorn.run(
        Ceiling(Path(os.environ["MODEL"]).read_bytes()),
        host="127.0.0.1",
        port=int(os.environ["PORT"]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        log_level="warning",
        proxy_headers=False,
    )
