"""The baseline: aiokafka's `getmany` and one msgspec decoder, nothing kept, nothing checked.

Run as a process of its own: `python -m tests.bench.bare_reader BROKERS TOPIC`; prints rows/s.
"""

import sys
import time

import msgspec
import uvloop
from aiokafka import AIOKafkaConsumer, TopicPartition

from tests.bench.rows import NUMBERS

_Values = msgspec.defstruct(
    "Values",
    [("id", str), ("at", str), ("carrier", str), *((name, float) for name in NUMBERS)],
    gc=False,
)


class _Record(msgspec.Struct, gc=False):
    stream: str
    record_key: str
    values: _Values  # type: ignore[valid-type]
    schema_version: int = 1


async def rows_per_s(brokers: str, topic: str) -> float:
    """Read a topic from its beginning to its end."""
    decode = msgspec.json.Decoder(_Record).decode
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers, enable_auto_commit=False, max_partition_fetch_bytes=4 << 20
    )
    await consumer.start()
    try:
        await consumer._client.add_topic(topic)  # noqa: SLF001
        places = [TopicPartition(topic, at) for at in consumer.partitions_for_topic(topic)]
        consumer.assign(places)
        await consumer.seek_to_beginning(*places)
        wanted = sum((await consumer.end_offsets(places)).values())
        read, began = 0, time.perf_counter()
        while read < wanted:
            for found in (await consumer.getmany(timeout_ms=1000)).values():
                for record in found:
                    decode(record.value)
                read += len(found)
        return read / (time.perf_counter() - began)
    finally:
        await consumer.stop()


if __name__ == "__main__":
    print(f"{uvloop.run(rows_per_s(sys.argv[1], sys.argv[2])):.0f}")  # noqa: T201
