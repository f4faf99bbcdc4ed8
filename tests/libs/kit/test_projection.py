"""Projections: the latest event of each key, complete when `start` returns, current after."""

import asyncio

import pytest

from gyral.kit.producer import open_producer
from gyral.kit.projection import Projection
from gyral.testkit.events import delivered, on_topic, send
from gyral.testkit.suites import Happened
from gyral.testkit.waiting import until


class Counted(Happened):
    """A thing whose number counts its generations."""

    @property
    def generation(self):
        return self.number


@pytest.fixture
async def event_type(new_topic):
    return on_topic(Counted, await new_topic(partitions=2, compacted=True, dead_letters=False))


@pytest.fixture
async def producer(kafka_brokers):
    async with open_producer(kafka_brokers) as opened:
        yield opened


@pytest.fixture
async def projection(kafka_brokers, event_type):
    projection = Projection(kafka_brokers, event_type)
    yield projection
    await projection.stop()


pytestmark = pytest.mark.live


async def test_start_knows_all_that_was_said_before(projection, event_type, producer):
    for number in (1, 2, 3):
        for thing in "abc":
            await send(producer, delivered(event_type(thing=thing, number=number)))
    await producer.send_and_wait(event_type.topic.name, None, key=b"c")
    assert projection.ready() is not None
    await projection.start()
    assert projection.generations() == {"a": 3, "b": 3}
    assert projection.get("c") is None
    assert projection.ready() is None
    assert projection.healthy() is None


async def test_an_empty_topic_is_known_at_once(projection):
    await projection.start()
    assert projection.values() == ()


async def test_refresh_returns_when_all_said_so_far_is_known(projection, event_type, producer):
    await projection.start()
    for number in range(1, 6):
        await send(producer, delivered(event_type(thing="a", number=number)))
        await projection.refresh()
        assert projection.generation("a") == number


async def test_changes_are_told_in_order_and_older_generations_ignored(
    projection, event_type, producer
):
    told = []

    async def note(key, event):
        told.append((key, event.number if event else None))

    projection.subscribe(note)
    await projection.start()
    for number in (1, 3, 2):
        await send(producer, delivered(event_type(thing="a", number=number)))
    await producer.send_and_wait(event_type.topic.name, None, key=b"a")
    await projection.refresh()
    assert told == [("a", 1), ("a", 3), ("a", None)]


async def test_bytes_that_are_no_event_leave_the_last_good_one(
    projection, event_type, producer
):
    await send(producer, delivered(event_type(thing="a", number=1)))
    await producer.send_and_wait(event_type.topic.name, b"\xff", key=b"a")
    await projection.start()
    assert projection.generation("a") == 1


async def test_without_kafka_a_snapshot_serves(kafka_brokers, event_type, producer, tmp_path):
    file = tmp_path / "things.jsonl"
    await send(producer, delivered(event_type(thing="a", number=4)))
    first = Projection(kafka_brokers, event_type, snapshot=file)
    await first.start()
    await first.stop()
    second = Projection("127.0.0.1:1", event_type, snapshot=file, snapshot_after_s=0.2)
    await second.start()
    assert second.generation("a") == 4
    assert (second.ready(), second.healthy()) == (None, None)
    await second.stop()


async def test_without_kafka_and_snapshot_start_waits(event_type, tmp_path):
    projection = Projection(
        "127.0.0.1:1", event_type, snapshot=tmp_path / "none", snapshot_after_s=0.1
    )
    starting = asyncio.create_task(projection.start())
    await asyncio.wait({starting}, timeout=1.0)
    assert not starting.done()
    assert projection.ready() is not None
    starting.cancel()
    await projection.stop()


async def test_health_sees_a_dead_reader(projection):
    await projection.start()
    projection._task.cancel()  # noqa: SLF001
    await until(lambda: projection.healthy() is not None)
