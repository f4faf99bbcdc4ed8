"""Kafka and Postgres die and come back: nothing is lost, doubled or left dead."""

import os
import signal

import pytest

from gyral.kit.bus import Bus
from gyral.kit.dataplane import DataPlane
from gyral.kit.db import INFRASTRUCTURE
from gyral.kit.outbox import Relay
from gyral.kit.producer import open_producer
from gyral.kit.projection import Projection
from gyral.kit.service import Part
from gyral.kit.tailing import Tail
from gyral.kit.tx import Tx, begin
from gyral.testkit.events import on_topic, send
from gyral.testkit.suites import Happened
from gyral.testkit.waiting import until
from tests.libs.kit.reading import consume, headers_of

pytestmark = [pytest.mark.live, pytest.mark.long]


@pytest.mark.parametrize("victim", ["kafka", "postgres"])
async def test_everything_goes_on_after_a_restart(
    victim, stack, pool, kafka_brokers, new_topic
):
    topic, next_topic = await new_topic(), await new_topic(compacted=True)
    arrived, followed = on_topic(Happened, topic), on_topic(Happened, next_topic)
    opened = begin(pool, Tx, service=topic.name)
    sunk = []

    async def react(event):
        async with opened() as tx:
            if await tx.claim(event):
                await tx.publish(followed(thing=str(event.number), number=event.number))

    async def sink(batch):
        async with batch.commit():
            offsets = [record.offset for part in batch.slices for record in part.records]
        sunk.extend(offsets)

    bus = Bus(kafka_brokers, service=topic.name, pool=pool, instance_id="one")
    bus.on(arrived, react)
    plane = DataPlane(
        kafka_brokers,
        group=f"{topic.name}.sink",
        topics=[topic.name],
        begin=opened,
        pool=pool,
        handle=sink,
        max_wait_s=0.1,
        instance_id="one",
    )
    projection = Projection(kafka_brokers, followed)
    parts: list[Part] = [projection, Relay(pool, kafka_brokers), bus, plane]
    for part in parts:
        await part.start()
    await produce(kafka_brokers, arrived, range(10))
    await until(lambda: len(projection.values()) == 10)

    os.kill(stack.stack.statuses()[victim].pid, signal.SIGKILL)
    await produce(kafka_brokers, arrived, range(10, 20))
    await until(lambda: len(projection.values()) == 20, timeout_s=60)
    await until(lambda: len(set(sunk)) >= 20, timeout_s=60)
    assert [part.healthy() for part in parts] == [None] * 4
    for part in reversed(parts):
        await part.stop()
    assert sorted(set(sunk)) == list(range(len(set(sunk))))
    assert len(sunk) == len(set(sunk))
    ids = {
        headers_of(record)["ce_id"]
        for record in await consume(kafka_brokers, next_topic.name, 20)
    }
    assert len(ids) == 20


async def test_who_listens_at_the_end_hears_again_after_a_restart(
    stack, kafka_brokers, new_topic
):
    told = on_topic(Happened, await new_topic(partitions=1, dead_letters=False))
    heard: list[Happened] = []
    tail = Tail(kafka_brokers, told, heard.append)
    await tail.start()

    async def hears():
        return await sent(kafka_brokers, told, range(1)) and heard

    await until(hears, timeout_s=60)
    os.kill(stack.stack.statuses()["kafka"].pid, signal.SIGKILL)
    heard.clear()
    await until(hears, timeout_s=60)
    assert tail.healthy() is None
    await tail.stop()


async def produce(brokers, event_type, numbers):
    """Send patiently, as a relay would: the broker may be on its way up."""
    await until(lambda: sent(brokers, event_type, numbers), timeout_s=60)


async def sent(brokers, event_type, numbers):
    """Return whether all was sent."""
    producer = open_producer(brokers)
    try:
        await producer.start()
        for number in numbers:
            await send(producer, event_type(thing="a", number=number))
    except INFRASTRUCTURE:
        return False
    finally:
        await producer.stop()
    return True
