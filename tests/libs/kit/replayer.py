"""Parks an event and puts it back, dying at POINT: replayer.py POINT BROKERS DSN TOPIC."""

import asyncio
import os
import signal
import sys

from gyral.contracts.events import Topic
from gyral.kit.bus import Bus
from gyral.kit.db import open_pool
from gyral.kit.letterbox import Chosen, Letterbox, LetterTx
from gyral.kit.outbox import Relay
from gyral.kit.producer import open_producer
from gyral.kit.reactions import Reactor
from gyral.kit.replays import ReplayOrder
from gyral.kit.tx import PermanentError, Tx, begin
from gyral.testkit.events import delivered, on_topic, send
from gyral.testkit.suites import Happened
from gyral.testkit.waiting import until


class Fate:
    """Kills this process at one point, or never."""

    point = "never"

    @classmethod
    def reach(cls, point):
        if point == cls.point:
            os.kill(os.getpid(), signal.SIGKILL)


class DyingTx(LetterTx):
    """A transaction that may die with everything written and nothing committed."""

    async def flush(self):
        await super().flush()
        Fate.reach("replaying")


class DyingRelay(Relay):
    """A relay that may die around Kafka's acknowledgement of a replay."""

    async def _send(self, producer, rows):
        replay = any(b"gyral-replay" in row["header_names"] for row in rows)
        if replay:
            Fate.reach("before_send")
        await super()._send(producer, rows)
        if replay:
            Fate.reach("after_send")


async def main():
    Fate.point, brokers, dsn, name = sys.argv[1:]
    async with open_pool(dsn) as pool:
        service = f"{name}.bus"
        opened = begin(pool, Tx, service=service)
        arrived = on_topic(Happened, Topic(name))
        mended = asyncio.Event()

        async def react(event):
            async with opened() as tx:
                if not await tx.claim(event):
                    return
                if not mended.is_set():
                    raise PermanentError("not mended yet")
                await tx.conn.execute(
                    "INSERT INTO effect (thing, number) VALUES ('a', $1)", event.number
                )
                Fate.reach("handling")

        reactor = Reactor(service=service, pool=pool, first_backoff_s=0.001)
        bus = Bus(brokers, service=service, pool=pool, instance_id="one", reactor=reactor)
        bus.on(arrived, react)
        relay = DyingRelay(pool, brokers, poll_s=0.1)
        await life(
            pool,
            bus,
            relay,
            Letterbox(pool, begin(pool, DyingTx, service=service)),
            brokers,
            arrived,
            mended,
        )


async def life(pool, bus, relay, box, brokers, arrived, mended):  # noqa: PLR0917
    """Park the one event there is, put it back, and wait for its effect."""
    event = delivered(arrived(thing="a", number=7), "the-event")
    if not await pool.fetchval("SELECT count(*) FROM dead_letter"):
        async with open_producer(brokers) as producer:
            await send(producer, event)
        await bus.start()
        await until(lambda: pool.fetchval("SELECT count(*) > 0 FROM dead_letter"))
        await bus.stop()
        Fate.reach("parking")
    mended.set()
    chosen = Chosen(topic=event.topic.name)
    known = await pool.fetchval("SELECT id FROM dead_letter")
    await box.put_back(chosen, ReplayOrder(known, "ann key-1", "mended"))
    Fate.reach("replayed")
    await relay.start()
    await until(lambda: pool.fetchval("SELECT count(*) = 0 FROM outbox"))
    await bus.start()
    # Behind every copy of it that an earlier life sent.
    last = delivered(arrived(thing="a", number=8), "the-last")
    async with open_producer(brokers) as producer:
        await send(producer, last)
    await until(lambda: pool.fetchval("SELECT count(*) > 0 FROM effect WHERE number = 8"))
    await bus.stop()
    await relay.stop()


if __name__ == "__main__":
    asyncio.run(main())
