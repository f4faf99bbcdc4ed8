"""Kafka and time in memory, so that real data planes live through histories in no time."""

import asyncio
import selectors
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import cast

from aiokafka import TopicPartition
from aiokafka.errors import IllegalStateError, KafkaConnectionError

from gyral.kit.dataplane import DataPlane
from gyral.kit.db import Pool
from gyral.testkit.sinks import MemorySink

TOPIC = "t"
GROUP = "g"
_MOST = 3
"""Records that one fetch brings of a partition: histories are short, batches are to differ."""


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer as soon as there is nothing to do."""

    def __init__(self):
        self.now_s = 0.0
        super().__init__(_Jumping(self))

    def time(self):
        return self.now_s


class _Jumping(selectors.SelectSelector):
    def __init__(self, loop):
        super().__init__()
        self._loop = loop

    def select(self, timeout=None):
        assert timeout is not None, "nothing will ever happen again"
        self._loop.now_s += max(0.0, timeout)
        return super().select(0)


@dataclass(frozen=True, slots=True)
class Record:
    """A record of the log."""

    partition: int
    offset: int
    value: bytes
    topic: str = TOPIC
    timestamp: int = 0
    key: bytes | None = None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class Process:
    """One process with a data plane; it can freeze and die between any two steps."""

    def __init__(self, world, name):
        self.world, self.name = world, name
        self.consumer = None
        self.dead = False
        self.trouble = []
        self._running = asyncio.Event()
        self._running.set()
        self.plane = DataPlane(
            "nowhere:0",
            group=GROUP,
            topics=[TOPIC],
            begin=self._begin,
            pool=cast("Pool", self),
            handle=self._handle,
            prepare=self._prepare,
            max_records=4,
            max_wait_s=0.3,
        )
        self.task = asyncio.get_running_loop().create_task(self.plane.run())

    @property
    def frozen(self):
        return not self._running.is_set()

    def freeze(self):
        self._running.clear()

    def thaw(self):
        self._running.set()

    async def die(self):
        """End at once: nothing that was begun is finished."""
        self.dead = True
        self.task.cancel()
        if self.consumer is not None:
            self.consumer.coordinator.cancel()
            await asyncio.wait({self.task, self.consumer.coordinator})
        await asyncio.wait({self.task})

    async def turn(self):
        """Be where the process may be frozen or die."""
        await self.world.tick()
        await self._running.wait()

    async def step(self):
        """The same where Postgres, or what a handler needs, may be away."""
        await self.turn()
        if self.trouble:
            raise self.trouble.pop()

    async def ask(self):
        """The same where Kafka may be away."""
        await self.turn()
        if self.trouble:
            raise KafkaConnectionError(self.trouble.pop())

    async def fetchval(self, query, *arguments):
        await self.step()
        found = await self.world.sink.fetchval(query, *arguments)
        await self.step()
        return found

    def _begin(self):
        return self.world.sink.begin()

    async def _prepare(self, slices):
        await self.step()
        rows = _rows(slices)

        async def handle(batch):
            self.world.ahead += 1
            await self._write(batch, rows)

        await self.step()
        return handle

    async def _handle(self, batch):
        await self._write(batch, _rows(batch.slices))

    async def _write(self, batch, rows):
        await self.step()
        async with batch.commit() as tx:
            await self.step()
            await tx.write(rows)
            await self.step()
        await self.step()


def _rows(slices):
    return [f"{record.partition}/{record.offset}" for part in slices for record in part.records]


class Consumer:
    """aiokafka's consumer as far as a data plane uses it; rebalances come by its own task."""

    def __init__(self, process):
        self._process, self._world = process, process.world
        self._positions: dict[TopicPartition, int] = {}
        self._orders: asyncio.Queue[frozenset[int]] = asyncio.Queue()
        process.consumer = self

    def subscribe(self, _topics, *, listener):
        self._listener = listener

    async def start(self):
        self.coordinator = asyncio.get_running_loop().create_task(self._coordinate())
        self._orders.put_nowait(self._world.owned_by(self._process))

    async def stop(self):
        self.coordinator.cancel()
        await asyncio.wait({self.coordinator})
        self._positions.clear()

    def order(self, partitions):
        """Have the group give these partitions to this member, in place of all it had."""
        self._orders.put_nowait(partitions)

    async def _coordinate(self):
        while True:
            wanted = await self._orders.get()
            await self._process.turn()
            had = list(self._positions)
            await self._listener.on_partitions_revoked(had)
            self._positions.clear()
            await self._process.turn()
            places = [TopicPartition(TOPIC, number) for number in sorted(wanted)]
            # Until it is told better, it fetches from what the group was told: not the truth.
            self._positions = {at: self._world.told.get(at, 0) for at in places}
            await self._listener.on_partitions_assigned(places)

    async def getmany(self, *, timeout_ms, max_records):
        """Fetch as aiokafka does: records are handed over in the moment they are taken."""
        assert max_records >= 1
        await self._process.ask()
        if not any(map(self._ahead, self._positions)):
            await pause(timeout_ms / 1000)
            await self._process.ask()
        found: dict[TopicPartition, list[Record]] = {}
        for at in list(self._positions):
            records = self._ahead(at)[:max_records]
            if records:
                found[at] = records
                self._positions[at] = records[-1].offset + 1
                max_records -= len(records)
        return found

    def _ahead(self, at):
        position = self._positions[at]
        return self._world.log[at.partition][position : position + _MOST]

    def assignment(self):
        return frozenset(self._positions)

    def seek(self, at, offset):
        if at not in self._positions:
            raise IllegalStateError(f"no current assignment for {at}")
        self._positions[at] = offset

    async def commit(self, offsets):
        await self._process.ask()
        self._world.told |= offsets

    async def beginning_offsets(self, places):
        await self._process.ask()
        return dict.fromkeys(places, 0)

    async def end_offsets(self, places):
        await self._process.ask()
        return {at: len(self._world.log[at.partition]) for at in places}

    def highwater(self, at):
        return len(self._world.log[at.partition])


@dataclass(slots=True)
class World:
    """The log, the group, the database, and the processes around them."""

    partitions: int
    tick: Callable[[], Awaitable[None]]
    """What lets the others go on for a while, drawn anew at each step."""
    sink: MemorySink = field(default_factory=MemorySink)
    told: dict[TopicPartition, int] = field(default_factory=dict)
    log: list[list[Record]] = field(init=False)
    owners: dict[int, Process] = field(default_factory=dict)
    processes: list[Process] = field(default_factory=list)
    ahead: int = 0
    """Attempts at a batch that began with what had been prepared."""

    def __post_init__(self):
        self.log = [[] for _ in range(self.partitions)]

    def produce(self, partition, count):
        log = self.log[partition]
        log += [Record(partition, len(log) + at, b"x") for at in range(count)]

    def owned_by(self, process):
        return frozenset(at for at, owner in self.owners.items() if owner is process)

    def assign(self, owners):
        """Give each partition to one process, or to none; a frozen one learns of it later."""
        self.owners = dict(owners)
        for process in self.processes:
            if process.consumer is not None:
                process.consumer.order(self.owned_by(process))

    def remove(self, process):
        self.processes.remove(process)
        self.owners = {at: owner for at, owner in self.owners.items() if owner is not process}

    def written(self, partition):
        """Return the offsets of a partition's records that took effect, in that order."""
        pairs = [value.split("/") for value in self.sink.output]
        return [int(offset) for at, offset in pairs if int(at) == partition]

    def stored(self, partition):
        return self.sink.offsets.get((GROUP, TOPIC, partition), 0)


async def pause(seconds):
    """Let time pass on the loop's clock."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().create_future()
