"""The bus: each effect once, in the order of the key; what cannot be handled is parked."""

import asyncio

import orjson
import pytest

from gyral.contracts.events import Topic
from gyral.kit.bus import Bus
from gyral.kit.outbox import Relay
from gyral.kit.producer import open_producer
from gyral.kit.reactions import Reactor
from gyral.kit.tx import PermanentError
from gyral.testkit.events import delivered, on_topic, send
from gyral.testkit.suites import Happened
from gyral.testkit.waiting import until
from tests.libs.kit.effects import Effects
from tests.libs.kit.reading import consume, headers_of

pytestmark = pytest.mark.live


@pytest.fixture
async def producer(kafka_brokers):
    async with open_producer(kafka_brokers) as opened:
        yield opened


@pytest.fixture
async def relay(pool, kafka_brokers):
    relay = Relay(pool, kafka_brokers, poll_s=0.2)
    await relay.start()
    yield relay
    await relay.stop()


@pytest.fixture
async def event_type(topic):
    return on_topic(Happened, topic)


@pytest.fixture
async def effects(pool, topic):
    await pool.execute("CREATE TABLE effect (seq bigserial, thing text, number integer)")
    return Effects(pool, topic.name)


@pytest.fixture
def new_bus(kafka_brokers, pool, topic, event_type, effects):
    def make(**knobs):
        reactor = Reactor(service=topic.name, pool=pool, first_backoff_s=0.001, **knobs)
        bus = Bus(
            kafka_brokers, service=topic.name, pool=pool, instance_id="one", reactor=reactor
        )
        bus.on(event_type, effects.handle)
        return bus

    return make


@pytest.fixture
async def bus(new_bus):
    bus = new_bus()
    await bus.start()
    yield bus
    await bus.stop()


async def test_a_redelivered_event_has_one_effect(bus, effects, event_type, producer):
    event = delivered(event_type(thing="a", number=1))
    for _ in range(3):
        await send(producer, event)
    await send(producer, delivered(event_type(thing="a", number=2)))
    await until(lambda: ("a", 2) in effects.calls and len(effects.calls) == 4)
    await until(lambda: two(effects))
    assert await effects.done() == [("a", 1), ("a", 2)]
    assert bus.healthy() is None


async def two(effects):
    return await effects.count() == 2


async def test_the_order_of_a_key_survives_retries(bus, effects, event_type, producer):
    effects.mishaps = {3: ValueError("once in a while")}
    for number in range(8):
        for thing in "ab":
            await send(producer, delivered(event_type(thing=thing, number=number)))
    await until(lambda: len(effects.calls) >= 4)
    effects.mishaps = {}

    async def all_done():
        return await effects.count() == 16

    await until(all_done)
    done = await effects.done()
    for thing in "ab":
        assert [number for at, number in done if at == thing] == list(range(8))


@pytest.mark.parametrize(
    ("mishap", "reason", "attempts"),
    [(PermanentError("no such model"), "permanent", "1"), (ValueError("a bug"), "bug", "6")],
    ids=["permanent", "bug"],
)
async def test_what_cannot_be_handled_is_parked_once_with_its_bytes(  # noqa: PLR0917
    mishap, reason, attempts, bus, effects, event_type, producer, relay, kafka_brokers, topic
):
    effects.mishaps = {7: mishap}
    event = delivered(event_type(thing="a", number=7))
    await send(producer, event)
    await send(producer, event)
    await send(producer, delivered(event_type(thing="a", number=8)))
    [parked] = await consume(kafka_brokers, topic.dead_letter_name, 1, linger_s=0.5)
    told = headers_of(parked)
    assert (told["dlq_reason"], told["dlq_attempts"], told["dlq_topic"]) == (
        reason,
        attempts,
        topic.name,
    )
    assert str(mishap) in told["dlq_error"]
    assert told["ce_id"] == event.delivery.event_id
    assert parked.value == event.model_dump_json().encode()
    assert await effects.done() == [("a", 8)]


async def test_bytes_that_are_no_event_are_parked_and_hold_up_nothing(  # noqa: PLR0917
    bus, effects, event_type, producer, relay, kafka_brokers, topic
):
    binary = [("ce_type", topic.name.encode()), ("noise", b"\xff\xfe"), ("nothing", None)]
    await producer.send_and_wait(topic.name, b"\x00\x01", key=b"a", headers=binary, partition=0)
    await producer.send_and_wait(topic.name, None, key=b"a", partition=0)
    await producer.send_and_wait(topic.name, b'{"thing": 5}', key=b"a", partition=0)
    await send(producer, delivered(event_type(thing="a", number=1)), partition=0)
    parked = await consume(kafka_brokers, topic.dead_letter_name, 3, linger_s=0.3)
    assert [record.value for record in parked] == [b"\x00\x01", None, b'{"thing": 5}']
    assert {headers_of(record)["dlq_reason"] for record in parked} == {"malformed"}
    assert ("noise", b"\xff\xfe") in parked[0].headers
    await until(lambda: effects.calls == [("a", 1)])


async def test_a_structured_event_is_read_too(bus, effects, producer, topic):
    envelope = {
        "specversion": "1.0",
        "id": "s-1",
        "source": "/test",
        "type": topic.name,
        "data": {"thing": "a", "number": 4},
    }
    await producer.send_and_wait(
        topic.name,
        orjson.dumps(envelope),
        key=b"a",
        headers=[("content-type", b"application/cloudevents+json; charset=utf-8")],
    )
    await until(lambda: effects.calls == [("a", 4)])


async def test_infrastructure_that_is_away_parks_nothing(
    bus, effects, event_type, producer, pool
):
    effects.mishaps = {1: ConnectionRefusedError("postgres is away")}
    await send(producer, delivered(event_type(thing="a", number=1)))
    await until(lambda: len(effects.calls) > 7)
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 0
    effects.mishaps = {}

    async def handled():
        return await effects.done() == [("a", 1)]

    await until(handled)


async def test_a_long_absence_hands_the_batch_back_and_loses_nothing(
    new_bus, effects, event_type, producer
):
    bus = new_bus(patience_s=0.05)
    await bus.start()
    effects.mishaps = {1: ConnectionRefusedError("away")}
    for number in range(3):
        await send(producer, delivered(event_type(thing="a", number=number)))
    await until(lambda: len(effects.calls) > 40)
    effects.mishaps = {}

    async def handled():
        return await effects.count() == 3

    await until(handled)
    assert await effects.done() == [("a", 0), ("a", 1), ("a", 2)]
    assert bus.healthy() is None
    await bus.stop()


async def test_a_run_of_failures_stops_the_line(new_bus, effects, event_type, producer, pool):
    bus = new_bus(retries=0, breaker=4)
    await bus.start()
    effects.mishaps = {number: ValueError("broken release") for number in range(20)}
    for number in range(20):
        await send(producer, delivered(event_type(thing="a", number=number)))
    await until(lambda: bus.healthy() is not None)
    assert "4 events failed in a row" in bus.healthy()
    assert await pool.fetchval("SELECT count(*) FROM outbox") == 3
    await bus.stop()
    effects.mishaps = {}
    mended = new_bus()
    await mended.start()

    async def rest_handled():
        return await effects.count() == 17

    await until(rest_handled)
    await mended.stop()


async def test_health_sees_a_consumer_loop_that_has_died(bus):
    assert bus.healthy() is None
    for task in bus._subscriber.tasks:  # noqa: SLF001 - as aiokafka's own bugs end them
        task.cancel()
        await asyncio.wait({task})
    assert bus.healthy() == "bus: a consumer loop has ended"


async def test_one_event_type_has_one_handler(new_bus, event_type, effects):
    with pytest.raises(ValueError, match="expected one handler"):
        new_bus().on(event_type, effects.handle)


async def test_a_topic_without_dead_letters_stops_the_line(
    new_topic, pool, kafka_brokers, producer, effects
):
    topic: Topic = await new_topic(dead_letters=False)
    event_type = on_topic(Happened, topic)
    bus = Bus(kafka_brokers, service=topic.name, pool=pool)
    bus.on(event_type, effects.handle)
    await bus.start()
    await producer.send_and_wait(topic.name, b"nonsense", key=b"a")
    await until(lambda: bus.healthy() is not None)
    assert "no dead letters" in str(bus.healthy())
    await bus.stop()
