"""What Kafka holds: how far partitions go, what was told of trainings, dead letters."""

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from gyral.client.errors import ClientError
from gyral.contracts import catalogue, training

_TOLD = {
    training.RunRequested.topic.name: "requested",
    training.RunSuppressed.topic.name: "suppressed",
    training.RunSucceeded.topic.name: "succeeded",
    training.RunFailed.topic.name: "failed",
    training.RunCancelled.topic.name: "cancelled",
}
_UNEXPLAINED = {"", "bug"}
_POLL_MS = 1000


class _OfRequest(msgspec.Struct):
    request_id: str


class _OfRun(msgspec.Struct):
    run_id: str


@dataclass(frozen=True, slots=True)
class Reach:
    """First offset a partition still has, and the one its next record gets."""

    begin: int
    end: int


@dataclass(frozen=True, slots=True)
class Log:
    """Kafka, read without a group."""

    consumer: AIOKafkaConsumer
    partitions: Mapping[str, int]
    """Topic to how many it has."""

    async def reach(self, topics: Sequence[str]) -> Mapping[tuple[str, int], Reach]:
        """Return how far each partition goes; (topic, partition) to its ends."""
        parts = self._parts(topics)
        begins = await self.consumer.beginning_offsets(parts)
        ends = await self.consumer.end_offsets(parts)
        return {(part.topic, part.partition): Reach(begins[part], ends[part]) for part in parts}

    async def told(self) -> Mapping[str, Mapping[str, int]]:
        """Return how often each word about each request was published, repetitions apart."""
        seen: set[str] = set()
        counts: dict[str, Counter[str]] = defaultdict(Counter)
        async for record in self._all(list(_TOLD)):
            event_id = _header(record, "ce_id")
            if event_id not in seen:
                seen.add(event_id)
                of = msgspec.json.decode(record.value, type=_OfRequest)
                counts[of.request_id][_TOLD[record.topic]] += 1
        return counts

    async def began(self) -> Mapping[str, datetime]:
        """Return when each run's last attempt was said to begin, by run."""
        found: dict[str, datetime] = {}
        async for record in self._all([training.RunStarted.topic.name]):
            run_id = msgspec.json.decode(record.value, type=_OfRun).run_id
            at = datetime.fromisoformat(_header(record, "ce_time"))
            found[run_id] = max(at, found.get(run_id, at))
        return found

    async def unexplained(self, settled: Collection[str]) -> Sequence[str]:
        """Return a line for each dead letter without a reason, or with a bug as its reason.

        Args:
            settled: ids of letters that were replayed, or whose events were handled since.
        """
        topics = [topic.name for topic in catalogue.topics() if topic.name.endswith(".dlq")]
        return [
            f"{record.topic}/{record.partition}/{record.offset}: "
            f"{_header(record, 'dlq_error') or 'no reason'}"
            async for record in self._all(topics)
            if _header(record, "dlq_reason") in _UNEXPLAINED
            and _header(record, "dlq_id") not in settled
        ]

    def _parts(self, topics: Sequence[str]) -> list[TopicPartition]:
        return [
            TopicPartition(topic, partition)
            for topic in topics
            for partition in range(self.partitions.get(topic, 0))
        ]

    async def _all(self, topics: Sequence[str]) -> AsyncIterator[ConsumerRecord]:
        """Yield every record of these topics up to where they end now."""
        parts = self._parts(topics)
        ends = await self.consumer.end_offsets(parts)
        begins = await self.consumer.beginning_offsets(parts)
        left = {part for part in parts if ends[part] > begins[part]}
        if not left:
            return
        self.consumer.assign(sorted(left))
        await self.consumer.seek_to_beginning(*left)
        while left:
            found = await self.consumer.getmany(timeout_ms=_POLL_MS)
            for records in found.values():
                for record in records:
                    yield record
            for part in list(left):
                if await self.consumer.position(part) >= ends[part]:
                    left.discard(part)


@asynccontextmanager
async def connect(brokers: str) -> AsyncIterator[Log]:
    """Open the log for reading.

    Raises:
        ClientError: Kafka does not answer.
    """
    consumer = AIOKafkaConsumer(
        bootstrap_servers=brokers, group_id=None, enable_auto_commit=False
    )
    admin = AIOKafkaAdminClient(bootstrap_servers=brokers)
    try:
        await admin.start()
        described = await admin.describe_topics()
        await consumer.start()
    except KafkaError as error:
        await consumer.stop()
        raise ClientError(
            f"Kafka at {brokers}: no answer ({type(error).__name__}): see `gyral status`"
        ) from error
    finally:
        await admin.close()
    try:
        yield Log(consumer, {each["topic"]: len(each["partitions"]) for each in described})
    finally:
        await consumer.stop()


def _header(record: ConsumerRecord, name: str) -> str:
    found = dict(record.headers).get(name)
    return found.decode("utf-8", "replace") if found else ""
