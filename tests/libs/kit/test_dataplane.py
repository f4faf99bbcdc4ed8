"""The data plane: output and offsets move together, whoever believes to own the partition."""

import asyncio

import pytest

from gyral.contracts.data import WatermarkAdvanced
from gyral.kit import cloudevents
from gyral.kit.dataplane import DataPlane, Fenced
from gyral.kit.producer import open_producer
from gyral.kit.tx import Tx, begin
from gyral.testkit.events import MOMENT, a_delivery
from gyral.testkit.waiting import until

pytestmark = pytest.mark.live


@pytest.fixture
async def producer(kafka_brokers):
    async with open_producer(kafka_brokers) as opened:
        yield opened


class Sink:
    """A handler that writes one row a record, in the transaction that moves the offsets."""

    def __init__(self):
        self.batches = []
        self.fenced = 0
        self.before_commit = None
        self.after_commit = None

    async def handle(self, batch):
        self.batches.append([record.value for part in batch.slices for record in part.records])
        if self.before_commit is not None:
            await self.before_commit(batch)
        rows = [
            (part.topic, part.partition, record.offset, (record.value or b"").decode())
            for part in batch.slices
            for record in part.records
        ]
        try:
            async with batch.commit() as tx:
                await tx.conn.executemany("INSERT INTO output VALUES ($1, $2, $3, $4)", rows)
        except Fenced:
            self.fenced += 1
            raise
        if self.after_commit is not None:
            await self.after_commit(batch)


@pytest.fixture
async def output(pool):
    await pool.execute(
        "CREATE TABLE output (topic text, partition integer, at bigint, value text)"
    )

    async def read():
        rows = await pool.fetch("SELECT value FROM output ORDER BY partition, at")
        return [row["value"] for row in rows]

    return read


@pytest.fixture
async def planes(kafka_brokers, pool, topic):
    made = []

    def make(sink, **knobs):
        knobs = {"max_wait_s": 0.05, "group": topic.name, **knobs}
        plane = DataPlane(
            kafka_brokers,
            topics=[topic.name],
            pool=pool,
            begin=begin(pool, Tx, service="kit"),
            handle=sink.handle,
            **knobs,
        )
        made.append(plane)
        return plane

    yield make
    for plane in made:
        await plane.stop()


async def produce(producer, topic, values):
    sent = [
        await producer.send(topic.name, value.encode(), partition=n % 3)
        for n, value in enumerate(values)
    ]
    await asyncio.gather(*sent)


def values(count, start=0):
    return [f"{number:04}" for number in range(start, start + count)]


async def test_every_record_is_written_once_across_restarts(planes, output, producer, topic):
    expected = []
    for start in (0, 30, 60):
        plane = planes(Sink(), instance_id="one")
        await plane.start()
        await produce(producer, topic, values(30, start))
        expected += values(30, start)

        wanted = len(expected)

        async def arrived(wanted=wanted):
            return len(await output()) >= wanted

        await until(arrived)
        await plane.stop()
    assert sorted(await output()) == expected


async def test_the_group_is_not_believed(planes, output, pool, producer, topic):
    plane = planes(Sink(), instance_id="one")
    await plane.start()
    await produce(producer, topic, values(9))

    async def arrived(wanted=9):
        return len(await output()) == wanted

    await until(arrived)
    await plane.stop()
    await pool.execute("UPDATE sink_offset SET next_offset = 1")
    await pool.execute("DELETE FROM output WHERE at >= 1")
    again = planes(Sink(), instance_id="one")
    await again.start()
    await until(arrived)
    assert sorted(await output()) == values(9)


async def test_a_marker_flushes_at_once_and_in_order(planes, output, producer, topic):
    sink = Sink()
    plane = planes(sink, max_wait_s=3600.0)
    await plane.start()
    await producer.send_and_wait(topic.name, b"before", partition=0)
    marker = cloudevents.encode(
        WatermarkAdvanced(subject="s", event_time=MOMENT),
        a_delivery(),
        source="/test",
        topic=topic.name,
    )
    await producer.send_and_wait(
        marker.topic, marker.value, key=marker.key, headers=marker.headers, partition=0
    )

    async def arrived():
        return len(await output()) == 2

    await until(arrived)
    assert sink.batches == [[b"before", marker.value]]


async def test_a_batch_never_exceeds_its_limit(planes, output, producer, topic):
    await produce(producer, topic, values(100))
    sink = Sink()
    plane = planes(sink, max_records=7, max_wait_s=3600.0)
    await plane.start()

    async def arrived():
        return len(await output()) >= 98

    await until(arrived)
    assert max(map(len, sink.batches)) <= 7


@pytest.mark.parametrize("zombie_id", ["one", None], ids=["same-member", "other-member"])
async def test_a_zombie_that_wakes_writes_nothing(zombie_id, planes, output, producer, topic):
    """It stopped between reading and committing; meanwhile another wrote the same rows."""
    await produce(producer, topic, values(30))
    holding, wake = asyncio.Event(), asyncio.Event()
    zombie_sink = Sink()

    async def stop_here(_batch):
        holding.set()
        await wake.wait()

    zombie_sink.before_commit = stop_here
    zombie = planes(zombie_sink, max_records=30, instance_id=zombie_id)
    await zombie.start()
    await holding.wait()
    heir = planes(Sink(), instance_id=zombie_id)
    await heir.start()
    if zombie_id is None:
        # Its client is alive and would share; take its partitions as a session time-out does.
        await zombie._consumer.stop()  # noqa: SLF001

    async def arrived(wanted=30):
        return len(await output()) == wanted

    await until(arrived)
    zombie_sink.before_commit = None
    wake.set()
    await until(lambda: zombie_sink.fenced == 1 or zombie.healthy())
    assert zombie_sink.fenced == 1
    await produce(producer, topic, values(30, 30))

    async def all_arrived():
        return await arrived(60)

    await until(all_arrived)
    assert sorted(await output()) == values(60)


async def test_infrastructure_that_is_away_is_waited_for(planes, output, producer, topic):
    sink = Sink()
    failures = iter(range(3))

    async def away(_batch):
        if next(failures, None) is not None:
            raise ConnectionRefusedError("s3 is away")

    sink.before_commit = away
    plane = planes(sink, instance_id="one")
    await plane.start()
    await produce(producer, topic, values(9))

    async def arrived():
        return len(await output()) == 9

    await until(arrived)
    assert plane.healthy() is None


@pytest.mark.parametrize("when", ["before_commit", "after_commit"])
async def test_a_bug_ends_the_loop_and_skips_nothing(when, planes, output, producer, topic):
    async def bug(_batch):
        raise ValueError("cannot")

    sink = Sink()
    setattr(sink, when, bug)
    plane = planes(sink, retries=1, instance_id="one")
    await plane.start()
    await produce(producer, topic, values(9))
    await until(lambda: plane.healthy() is not None)
    assert "ValueError" in plane.healthy()
    mended = planes(Sink(), instance_id="one")
    await mended.start()

    async def arrived():
        return len(await output()) >= 9

    await until(arrived)
    assert sorted(await output()) == values(9)


async def test_a_handler_that_forgets_to_commit_is_a_bug(planes, output, producer, topic):
    class Forgetful(Sink):
        async def handle(self, batch):
            self.batches.append(batch)

    plane = planes(Forgetful(), retries=0)
    await plane.start()
    await produce(producer, topic, values(3))
    await until(lambda: plane.healthy() is not None)
    assert await output() == []


async def test_a_group_shares_its_partitions(planes, output, producer, topic):
    first, second = Sink(), Sink()
    one, two = planes(first, instance_id="one"), planes(second, instance_id="two")
    await one.start()
    await until(lambda: one.ready() is None)
    await two.start()
    await until(lambda: two.ready() is None and len(one.lag()) + len(two.lag()) == 3)
    await produce(producer, topic, values(90))

    async def arrived():
        return len(await output()) >= 90

    await until(arrived)
    assert sorted(await output()) == values(90)
    assert first.batches
    assert second.batches
