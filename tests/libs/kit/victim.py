"""A process that dies by SIGKILL: victim.py POINT COUNT BROKERS DSN TOPIC NEXT_TOPIC."""

import asyncio
import os
import signal
import sys

from gyral.contracts.events import Topic
from gyral.kit.bus import Bus
from gyral.kit.dataplane import DataPlane
from gyral.kit.db import open_pool
from gyral.kit.outbox import Relay
from gyral.kit.tx import Tx, begin
from gyral.testkit.events import on_topic
from gyral.testkit.suites import Happened


class Fate:
    """Kills this process when a point has been reached so many times."""

    def __init__(self, point, count):
        self.point, self.left = point, int(count)

    def reach(self, point):
        """Die here, or go on."""
        self.left -= point == self.point
        if self.left <= 0:
            os.kill(os.getpid(), signal.SIGKILL)


class FatedRelay(Relay):
    """A relay that may die between Kafka's acknowledgement and the outbox's commit."""

    fate: Fate

    async def _send(self, producer, rows):
        self.fate.reach("before_send")
        await super()._send(producer, rows)
        self.fate.reach("after_send")


class FatedTx(Tx):
    """A transaction that may die just before its commit."""

    fate: Fate

    async def flush(self):
        await super().flush()
        self.fate.reach("before_commit")


async def main():
    point, count, brokers, dsn, name, next_name = sys.argv[1:]
    fate = FatedRelay.fate = FatedTx.fate = Fate(point, count)
    async with open_pool(dsn) as pool:
        opened = begin(pool, FatedTx, service="victim")
        relay = FatedRelay(pool, brokers, poll_s=0.2)
        bus = Bus(brokers, service=f"{name}.bus", pool=pool, instance_id="one", max_records=10)
        arrived, followed = (
            on_topic(Happened, Topic(name)),
            on_topic(Happened, Topic(next_name)),
        )

        async def react(event):
            async with opened() as tx:
                if not await tx.claim(event):
                    return
                await tx.conn.execute(
                    "INSERT INTO effect (thing, number) VALUES ($1, $2)",
                    event.thing,
                    event.number,
                )
                await tx.publish(followed(thing=event.thing, number=event.number))
            fate.reach("after_commit")

        async def sink(batch):
            async with batch.commit() as tx:
                for part in batch.slices:
                    rows = [(part.partition, record.offset) for record in part.records]
                    await tx.conn.executemany(
                        "INSERT INTO output (partition, at) VALUES ($1, $2)", rows
                    )
            fate.reach("after_sink")

        plane = DataPlane(
            brokers,
            group=f"{name}.sink",
            topics=[name],
            begin=opened,
            pool=pool,
            handle=sink,
            max_records=10,
            instance_id="one",
        )
        bus.on(arrived, react)
        for part in (relay, bus, plane):
            await part.start()
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
