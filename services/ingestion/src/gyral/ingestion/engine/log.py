"""The log records go to: nothing counts as taken before Kafka has acknowledged all of it."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from gyral.contracts.batches import BatchSubmitted
from gyral.contracts.data import RecordSubmitted, WatermarkAdvanced
from gyral.contracts.events import Delivery
from gyral.ingestion.engine.forms import Value
from gyral.ingestion.engine.metrics import Metrics
from gyral.kit import cloudevents
from gyral.kit.db import is_infrastructure
from gyral.kit.personal import SEAL
from gyral.kit.producer import open_producer

TOPIC = RecordSubmitted.topic.name
SOURCE = "/ingestion"
_Send: TypeAlias = Callable[[AIOKafkaProducer], Awaitable[list[asyncio.Future[object]]]]


class LogAwayError(Exception):
    """Kafka did not acknowledge everything in time; some of it may be there all the same."""


@dataclass(frozen=True, slots=True)
class Submission:
    """A request's rows, grouped by partition, and what their ids are made of."""

    stream: str
    generation: int
    seed: str
    """A UUID."""
    values: Sequence[Value]
    traceparent: str | None = None

    @property
    def rows(self) -> int:
        """How many there are."""
        return sum(value.rows for value in self.values)

    def id_of(self, line: int) -> str:
        """Return the id of a row by its number, from 1: the same when sent again."""
        return f"{self.seed}-{line}"


@dataclass(frozen=True, slots=True)
class Mark:
    """A stream's time that stands behind all that was sent before."""

    stream: str
    event_time: datetime
    id: str
    traceparent: str | None = None


class RecordLog:
    """Appends batches and markers; a producer that failed is replaced before the next use."""

    def __init__(self, brokers: str, *, wait_s: float, metrics: Metrics) -> None:
        self._brokers = brokers
        self._wait_s = wait_s
        self._metrics = metrics
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()
        self._partitions = 0

    async def start(self) -> None:
        """Connect when Kafka answers; else the first request tries again."""
        with suppress(LogAwayError):
            await self.partitions()

    async def stop(self) -> None:
        """Send what is in hand and disconnect."""
        await self._drop(self._producer)

    def healthy(self) -> str | None:
        """Answer None always: callers are told of a Kafka that is away; no restart helps."""
        return None

    async def partitions(self) -> int:
        """Return how many partitions the topic has, as far as Kafka last said.

        Raises:
            LogAwayError: it never did.
        """
        if self._producer is not None:
            cluster = self._producer.client.cluster
            self._partitions = (
                len(cluster.partitions_for_topic(TOPIC) or ()) or self._partitions
            )
        if self._partitions == 0:
            producer = await self._open()
            try:
                async with asyncio.timeout(self._wait_s):
                    self._partitions = len(await producer.partitions_for(TOPIC))
            except (KafkaError, OSError) as error:
                raise LogAwayError(type(error).__name__) from error
        return self._partitions

    async def append(self, submission: Submission) -> None:
        """Return once Kafka has acknowledged every row.

        Raises:
            LogAwayError: it did not.
        """
        numbered = list(enumerate(submission.values))

        async def send(producer: AIOKafkaProducer) -> list[asyncio.Future[object]]:
            return [
                await producer.send(
                    TOPIC,
                    value.content,
                    partition=value.partition,
                    headers=_headers(submission, value, number),
                )
                for number, value in numbered
            ]

        await self._acknowledged(send)

    async def mark(self, mark: Mark) -> None:
        """Return once every partition holds the marker; raises like `append`."""
        marker = WatermarkAdvanced(subject=mark.stream, event_time=mark.event_time)
        delivery = Delivery(mark.id, mark.id, traceparent=mark.traceparent)
        encoded = cloudevents.encode(marker, delivery, source=SOURCE, topic=TOPIC)

        async def send(producer: AIOKafkaProducer) -> list[asyncio.Future[object]]:
            return [
                await producer.send(
                    TOPIC,
                    encoded.value,
                    key=encoded.key,
                    partition=partition,
                    headers=encoded.headers,
                )
                for partition in sorted(await producer.partitions_for(TOPIC))
            ]

        await self._acknowledged(send)

    async def _acknowledged(self, send: _Send) -> None:
        producer = await self._open()
        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._wait_s):
                await asyncio.gather(*await send(producer))
        except Exception as error:
            if not is_infrastructure(error) and not isinstance(error, KafkaError):
                raise
            await self._drop(producer)
            raise LogAwayError(type(error).__name__) from error
        self._metrics.produce_seconds.record(time.perf_counter() - started)

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is not None:
                return self._producer
            producer = open_producer(self._brokers)
            try:
                async with asyncio.timeout(self._wait_s):
                    await producer.start()
            except (KafkaError, OSError) as error:
                await self._close(producer)
                raise LogAwayError(type(error).__name__) from error
            self._producer = producer
            return producer

    async def _drop(self, producer: AIOKafkaProducer | None) -> None:
        if producer is not None and producer is self._producer:
            self._producer = None
            await self._close(producer)

    async def _close(self, producer: AIOKafkaProducer) -> None:
        with suppress(KafkaError, OSError):
            async with asyncio.timeout(2):
                await producer.stop()


def _headers(submission: Submission, value: Value, number: int) -> cloudevents.Headers:
    batch = BatchSubmitted.model_construct(
        stream=submission.stream,
        schemaversion=submission.generation,
        rows=value.rows,
        form=value.form,
    )
    attributes = batch.attributes
    common = cloudevents.headers(
        BatchSubmitted.type,
        f"{submission.seed}.{number}",
        SOURCE,
        traceparent=submission.traceparent,
        content_type=attributes["content-type"],
    )
    given = {name for name, _ in common}
    headers = common + [(n, text.encode()) for n, text in attributes.items() if n not in given]
    return headers if value.seal is None else [*headers, (SEAL, value.seal)]
