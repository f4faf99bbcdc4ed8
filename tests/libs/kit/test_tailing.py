"""Tails: what is told from now on, handed on once; nothing of before, nothing malformed."""

import pytest

from gyral.kit.producer import open_producer
from gyral.kit.tailing import Tail
from gyral.testkit.events import delivered, on_topic, send
from gyral.testkit.suites import Happened
from gyral.testkit.waiting import until

pytestmark = pytest.mark.live


@pytest.fixture
async def event_type(new_topic):
    return on_topic(Happened, await new_topic(partitions=1, dead_letters=False))


@pytest.fixture
async def producer(kafka_brokers):
    async with open_producer(kafka_brokers) as opened:
        yield opened


async def test_only_what_comes_from_now_on_is_handed_on(kafka_brokers, event_type, producer):
    await send(producer, delivered(event_type(thing="before", number=0)))
    heard: list[Happened] = []
    tail = Tail(kafka_brokers, event_type, heard.append)
    await tail.start()
    sent = 0

    async def told():
        """It is heard once the tail has found the topic's end."""
        nonlocal sent
        sent += 1
        await send(producer, delivered(event_type(thing="now", number=sent)))
        return heard

    await until(told)
    await producer.send_and_wait(event_type.topic.name, b"no event")
    await producer.send_and_wait(event_type.topic.name, None, key=b"k")
    await send(producer, delivered(event_type(thing="last", number=99)))
    await until(lambda: heard[-1].number == 99)
    assert tail.healthy() is None
    await tail.stop()
    assert {each.thing for each in heard} == {"now", "last"}
    numbers = [each.number for each in heard]
    assert numbers == sorted(set(numbers))
    assert "expected it to read" in str(tail.healthy())
