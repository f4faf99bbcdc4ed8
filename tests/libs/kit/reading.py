"""Reading back what a test caused."""

import asyncio

from aiokafka import AIOKafkaConsumer, TopicPartition

from gyral.kit.cloudevents import Record


async def consume(brokers, topic, count, *, timeout_s=20.0, linger_s=0.0):
    """Return at least `count` records of a topic, and what comes within `linger_s` after."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers, group_id=None, enable_auto_commit=False
    )
    await consumer.start()
    try:
        await consumer._client.add_topic(topic)  # noqa: SLF001 - no public way to learn partitions
        partitions = [
            TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)
        ]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        found: list[Record] = []
        async with asyncio.timeout(timeout_s):
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=200)).values():
                    found += records
        if linger_s:
            for records in (await consumer.getmany(timeout_ms=int(linger_s * 1000))).values():
                found += records
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        await consumer.stop()


def headers_of(record):
    """Return a record's headers as text."""
    return {name: (value or b"").decode("utf-8", "replace") for name, value in record.headers}
