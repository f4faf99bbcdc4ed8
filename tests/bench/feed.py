"""Rows as batches for Kafka, made before they are sent: nothing is made while one measures."""

import asyncio
import multiprocessing
from collections.abc import AsyncIterator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from typing import TypeAlias

from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.records_to_delete import RecordsToDelete
from aiokafka.errors import GroupCoordinatorNotAvailableError
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.protocol.group import LeaveGroupRequest

from gyral.contracts.data import RecordSubmitted
from gyral.kit.partitioning import partitions_of
from gyral.testkit.backends import make_topics
from gyral.testkit.waiting import until
from gyral.validation.app import RECORDS
from tests.bench.rows import as_records, rows

TOPIC = RecordSubmitted.topic.name
STREAM = "bench"
_CHUNK = 20_000
_WORKERS = 2
_TO_THE_END = -1
Prepared: TypeAlias = Sequence[tuple[int, BatchBuilder]]
"""Partitions, each with a batch for it, in the order of sending."""


@contextmanager
def workers() -> Iterator[ProcessPoolExecutor]:
    """Keep processes that make rows."""
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(_WORKERS, mp_context=context) as pool:
        yield pool


@dataclass(frozen=True, slots=True)
class Feed:
    """Makes rows as records of one row each, and sends them where their keys belong."""

    producer: AIOKafkaProducer
    pool: ProcessPoolExecutor

    async def prepared(self, first: int, count: int) -> Prepared:
        """Return the rows numbered from `first` on, all in memory, about 450 bytes each."""
        partitions = len(await self.producer.partitions_for(TOPIC))
        loop = asyncio.get_running_loop()
        chunks = [
            loop.run_in_executor(
                self.pool, _encoded, start, min(_CHUNK, first + count - start), partitions
            )
            for start in range(first, first + count, _CHUNK)
        ]
        batches: list[tuple[int, BatchBuilder]] = []
        for chunk in chunks:
            open_: dict[int, BatchBuilder] = {}
            for home, key, value in await chunk:
                builder = open_.get(home)
                if builder is None or not builder.append(key=key, value=value, timestamp=None):
                    builder = open_[home] = self.producer.create_batch()
                    builder.append(key=key, value=value, timestamp=None)
                    batches.append((home, builder))
        return batches

    async def send(self, batches: Prepared) -> None:
        """Return once Kafka has them all."""
        for home, builder in batches:
            await self.producer.send_batch(builder, TOPIC, partition=home)
        await self.producer.flush()


@asynccontextmanager
async def feeding(brokers: str, pool: ProcessPoolExecutor) -> AsyncIterator[Feed]:
    """Yield a feed of the topic as it is now."""
    async with AIOKafkaProducer(
        bootstrap_servers=brokers, acks="all", max_batch_size=500_000
    ) as producer:
        yield Feed(producer, pool)


async def make_anew(brokers: str, partitions: int) -> None:
    """Replace the topic by an empty one with so many partitions; nobody may be reading it."""
    async with _admin(brokers) as admin:
        await admin.delete_topics([TOPIC])

        async def gone() -> bool:
            return TOPIC not in await admin.list_topics()

        await until(gone)
    await make_topics(brokers, replace(RecordSubmitted.topic, partitions=partitions))


async def forget_sent(brokers: str, partitions: int) -> None:
    """Let Kafka drop all the topic holds: the disk keeps a segment a partition, no more."""
    async with _admin(brokers) as admin:
        everything = RecordsToDelete(_TO_THE_END)
        await admin.delete_records(
            {TopicPartition(TOPIC, at): everything for at in range(partitions)}
        )


async def joined(brokers: str, members: int) -> None:
    """Return once so many processes share the partitions among them."""
    async with _admin(brokers) as admin:

        async def shared() -> bool:
            try:
                state, present = await _group(admin)
            except GroupCoordinatorNotAvailableError:  # a new Kafka is still making it
                return False
            return state == "Stable" and len(present) == members

        await until(shared, timeout_s=60)


async def dismiss_members(brokers: str) -> None:
    """Let members leave that have ended: a static one is missed only after a time-out.

    Until then it would be given partitions, and its successor those of the topic that was.
    """
    async with _admin(brokers) as admin:
        coordinator = await admin.find_coordinator(RECORDS)
        for member in (await _group(admin))[1]:
            leave = LeaveGroupRequest(RECORDS, member)
            await admin._send_request(leave, coordinator)  # noqa: SLF001


async def _group(admin: AIOKafkaAdminClient) -> tuple[str, Sequence[str]]:
    """Return the state of validation's group and its members."""
    [answer] = await admin.describe_consumer_groups([RECORDS])
    [(_, _, state, _, _, members, *_)] = answer.groups
    return state, [member for member, *_ in members]


@asynccontextmanager
async def _admin(brokers: str) -> AsyncIterator[AIOKafkaAdminClient]:
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


def _encoded(first: int, count: int, partitions: int) -> list[tuple[int, bytes, bytes]]:
    """Return partition, key and value of each row."""
    made = rows(count, first=first)
    keys = [str(row["id"]).encode() for row in made]
    homes = partitions_of(keys, partitions).tolist()
    return list(zip(homes, keys, as_records(STREAM, made), strict=True))
