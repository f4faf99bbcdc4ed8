"""SIGKILL at the worst moments: every event has one effect and is followed once, in order."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import pytest

from gyral.kit.producer import open_producer
from gyral.testkit.events import on_topic, send
from gyral.testkit.suites import Happened
from gyral.testkit.waiting import until
from tests.libs.kit.reading import consume, headers_of

pytestmark = pytest.mark.live

ROUND = 3
"""Events of each key that are sent before each run."""
THINGS = "abcd"
DEATHS = (
    ("before_commit", 3),
    ("after_commit", 5),
    ("before_send", 1),
    ("after_send", 1),
    ("after_sink", 1),
)
NUMBERS = list(range(ROUND * (len(DEATHS) + 1)))
EVENTS = len(NUMBERS) * len(THINGS)


async def test_effects_happen_once_whenever_the_process_dies(
    pool, postgres_dsn, kafka_brokers, new_topic
):
    topic, next_topic = await new_topic(partitions=2), await new_topic(partitions=2)
    await pool.execute("CREATE TABLE effect (seq bigserial, thing text, number integer)")
    await pool.execute("CREATE TABLE output (partition integer, at bigint)")

    async def run(point, count):
        return await asyncio.create_subprocess_exec(
            sys.executable,
            Path(__file__).with_name("victim.py"),
            *(point, str(count), kafka_brokers, postgres_dsn, topic.name, next_topic.name),
            stdout=asyncio.subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )

    event_type = on_topic(Happened, topic)
    for turn, (point, count) in enumerate(DEATHS):
        await produce(kafka_brokers, event_type, turn)
        victim = await run(point, count)
        async with asyncio.timeout(30):
            assert await victim.wait() == -signal.SIGKILL
    await produce(kafka_brokers, event_type, len(DEATHS))
    survivor = await run("never", 1)
    try:
        await until(lambda: all_done(pool), timeout_s=30)
    finally:
        survivor.kill()
        await survivor.wait()
    await each_effect_once_in_order(pool)
    await each_follower_once_in_order(kafka_brokers, next_topic)
    rows = await pool.fetch("SELECT partition, at FROM output")
    assert len(rows) == len({(row["partition"], row["at"]) for row in rows}) == EVENTS


async def produce(brokers, event_type, turn):
    async with open_producer(brokers) as producer:
        for number in NUMBERS[turn * ROUND : (turn + 1) * ROUND]:
            for thing in THINGS:
                await send(producer, event_type(thing=thing, number=number))


async def all_done(pool):
    left = await pool.fetchrow(
        """
        SELECT (SELECT count(*) FROM effect) AS effects,
               (SELECT count(*) FROM output) AS outputs,
               (SELECT count(*) FROM outbox) AS unsent
        """
    )
    return tuple(left.values()) == (EVENTS, EVENTS, 0)


async def each_effect_once_in_order(pool):
    rows = await pool.fetch("SELECT thing, number FROM effect ORDER BY seq")
    for thing in THINGS:
        assert [row["number"] for row in rows if row["thing"] == thing] == NUMBERS


async def each_follower_once_in_order(brokers, topic):
    """A relay may send twice, but under one id, and in order once duplicates are dropped."""
    seen: dict[str, Happened] = {}
    for record in await consume(brokers, topic.name, EVENTS, linger_s=0.3):
        event = Happened.model_validate_json(record.value)
        seen.setdefault(headers_of(record)["ce_id"], event)
    assert len(seen) == EVENTS
    for thing in THINGS:
        assert [e.number for e in seen.values() if e.thing == thing] == NUMBERS
