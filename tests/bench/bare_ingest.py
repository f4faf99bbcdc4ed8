"""The bare application that ingestion is measured against: orjson and aiokafka alone."""

import asyncio
import os
import sys

import orjson
import uvicorn
from aiokafka import AIOKafkaProducer
from starlette.types import Receive, Scope, Send

TOPIC = os.environ["BARE_TOPIC"]


class Bare:
    """Parses NDJSON line by line, produces a record a line, answers when all are there."""

    def __init__(self) -> None:
        self.producer: AIOKafkaProducer | None = None
        self._starting = asyncio.Lock()

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        producer = await self._started()
        sent = []
        for line in body.split(b"\n"):
            if line:
                row = orjson.loads(line)
                sent.append(await producer.send(TOPIC, line, key=row["id"].encode()))
        await asyncio.gather(*sent)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": b'{"accepted":%d}' % len(sent)})

    async def _started(self) -> AIOKafkaProducer:
        async with self._starting:
            if self.producer is None:
                # As ingestion's own: acknowledged by all, idempotent, batched, zstd.
                self.producer = AIOKafkaProducer(
                    bootstrap_servers=os.environ["KAFKA_BROKERS"],
                    enable_idempotence=True,
                    acks="all",
                    max_batch_size=262_144,
                    compression_type={"none": None}.get(
                        os.environ.get("BARE_COMPRESSION", "zstd"), "zstd"
                    ),
                )
                await self.producer.start()
            return self.producer


if __name__ == "__main__":
    uvicorn.run(
        Bare(),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        loop="uvloop",
        http="httptools",
        lifespan="off",
        log_level="error",
        access_log=False,
    )
