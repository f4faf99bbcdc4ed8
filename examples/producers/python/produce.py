"""Sends rows of stdin, a key, a tab and a JSON object each, straight to Kafka."""

import asyncio
import json
import sys
import uuid

from aiokafka import AIOKafkaProducer

TYPE = "data.record.submitted.v1"


async def main(brokers: str, stream: str) -> None:
    """Return once Kafka holds every row; the default partitioner is murmur2, as Java's is."""
    async with AIOKafkaProducer(
        bootstrap_servers=brokers, acks="all", enable_idempotence=True
    ) as producer:
        sent = []
        for line in sys.stdin:
            key, values = line.rstrip("\n").split("\t", 1)
            data = {"stream": stream, "record_key": key, "values": json.loads(values)}
            headers = {"specversion": "1.0", "id": str(uuid.uuid4()), "type": TYPE}
            pairs = [(f"ce_{name}", text.encode()) for name, text in headers.items()]
            pairs += [("ce_source", b"/python"), ("content-type", b"application/json")]
            value = json.dumps(data).encode()
            sent.append(await producer.send(TYPE, value, key=key.encode(), headers=pairs))
        await asyncio.gather(*sent)  # a row counts as sent once this has not raised


asyncio.run(main(*sys.argv[1:]))
