"""The relay: everything committed reaches Kafka, in the order of its key."""

import asyncio

import pytest

from gyral.kit.outbox import Message, Relay
from gyral.kit.tx import PermanentError, Tx, begin
from gyral.testkit.events import on_topic
from gyral.testkit.suites import Happened
from gyral.testkit.waiting import until
from tests.libs.kit.reading import consume

pytestmark = pytest.mark.live


@pytest.fixture
async def relay(pool, kafka_brokers):
    relay = Relay(pool, kafka_brokers, poll_s=0.2)
    await relay.start()
    yield relay
    await relay.stop()


async def publish(pool, event_type, thing, numbers):
    for number in numbers:
        async with begin(pool, Tx, service="kit")() as tx:
            await tx.publish(event_type(thing=thing, number=number))


async def test_each_key_arrives_in_the_order_of_its_commits(pool, kafka_brokers, topic, relay):
    event_type = on_topic(Happened, topic)
    await asyncio.gather(*(publish(pool, event_type, thing, range(20)) for thing in "abcd"))
    records = await consume(kafka_brokers, topic.name, 80)
    for thing in "abcd":
        numbers = [
            event_type.model_validate_json(r.value).number
            for r in records
            if r.key == thing.encode()
        ]
        assert numbers == list(range(20))
    await until(lambda: empty(pool))


async def test_two_relays_send_each_event_once(pool, kafka_brokers, topic, relay):
    second = Relay(pool, kafka_brokers)
    await second.start()
    event_type = on_topic(Happened, topic)
    await asyncio.gather(*(publish(pool, event_type, thing, range(10)) for thing in "abcd"))
    await consume(kafka_brokers, topic.name, 40)
    await until(lambda: empty(pool))
    await second.stop()
    assert len(await consume(kafka_brokers, topic.name, 40, linger_s=0.5)) == 40


async def test_stop_sends_what_is_committed(pool, kafka_brokers, topic):
    relay = Relay(pool, kafka_brokers)
    await relay.start()
    await publish(pool, on_topic(Happened, topic), "a", range(5))
    await relay.stop()
    assert await empty(pool)
    assert len(await consume(kafka_brokers, topic.name, 5)) == 5


async def test_an_event_too_large_for_kafka_never_enters_the_outbox(pool, topic):
    with pytest.raises(PermanentError, match="expected at most"):
        await publish(pool, on_topic(Happened, topic), "a" * 1_000_000, [1])
    assert await empty(pool)


async def test_a_record_goes_to_the_partition_it_asks_for_while_there_is_one(
    pool, kafka_brokers, topic, relay
):
    async with begin(pool, Tx, service="kit")() as tx:
        for number in (0, 1, 2, 99):
            name = f"m-{number}"
            await tx.forward(Message(name, topic.name, b"one", [], b"v", partition=number))
    found = await consume(kafka_brokers, topic.name, 4)
    assert {record.partition for record in found} == {0, 1, 2}


async def empty(pool):
    return await pool.fetchval("SELECT count(*) FROM outbox") == 0
