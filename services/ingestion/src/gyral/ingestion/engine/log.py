"""The log records go to: nothing counts as taken before Kafka has acknowledged all of it."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeAlias

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from gyral.contracts.data import RecordSubmitted, WatermarkAdvanced
from gyral.contracts.events import Delivery
from gyral.ingestion.engine.rows import Row
from gyral.kit import cloudevents
from gyral.kit.cloudevents import Headers
from gyral.kit.db import is_infrastructure
from gyral.kit.producer import open_producer
from gyral.kit.telemetry import current_traceparent

TOPIC = RecordSubmitted.topic.name
SOURCE = "/ingestion"
_Send: TypeAlias = Callable[[AIOKafkaProducer], Awaitable[list[asyncio.Future[object]]]]


class LogAwayError(Exception):
    """Kafka did not acknowledge everything in time; some of it may be there all the same."""


@dataclass(frozen=True, slots=True)
class Submission:
    """Rows to append, and what their ids are made of."""

    stream: str
    generation: int
    seed: str
    rows: Sequence[Row]

    def id_of(self, line: int) -> str:
        """Return the id of a row by its number, from 1: the same when sent again."""
        return f"{self.seed}-{line}"


class RecordLog:
    """Appends rows and markers; a producer that failed is replaced before the next use."""

    def __init__(self, brokers: str, *, wait_s: float) -> None:
        self._brokers = brokers
        self._wait_s = wait_s
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def start(self) -> None:
        """Connect when Kafka answers; else the first request tries again."""
        with suppress(LogAwayError):
            await self._open()

    async def stop(self) -> None:
        """Send what is in hand and disconnect."""
        await self._drop(self._producer)

    def healthy(self) -> str | None:
        """Answer None always: callers are told of a Kafka that is away; no restart helps."""
        return None

    async def append(self, submission: Submission) -> None:
        """Return once Kafka has acknowledged every row.

        Raises:
            LogAwayError: it did not.
        """
        head = orjson.dumps(
            {"stream": submission.stream, "schema_version": submission.generation}
        )[:-1]
        shared = cloudevents.headers(TOPIC, "", SOURCE, traceparent=current_traceparent())
        id_at = next(at for at, (name, _) in enumerate(shared) if name == "ce_id")

        async def send(producer: AIOKafkaProducer) -> list[asyncio.Future[object]]:
            sent = []
            for line, row in enumerate(submission.rows, start=1):
                headers: Headers = shared.copy()
                headers[id_at] = ("ce_id", submission.id_of(line).encode())
                value = b"".join(
                    (
                        head,
                        b',"record_key":',
                        orjson.dumps(row.key),
                        b',"values":',
                        row.values,
                        b"}",
                    )
                )
                sent.append(
                    await producer.send(TOPIC, value, key=row.key.encode(), headers=headers)
                )
            return sent

        await self._acknowledged(send)

    async def mark(self, stream: str, event_time: datetime) -> None:
        """Return once every partition holds a marker of this time; raises like `append`."""
        marker = WatermarkAdvanced(subject=stream, event_time=event_time)
        id_ = str(uuid.uuid4())
        delivery = Delivery(id_, id_, traceparent=current_traceparent(), time=datetime.now(UTC))
        encoded = cloudevents.encode(marker, delivery, source=SOURCE, topic=TOPIC)

        async def send(producer: AIOKafkaProducer) -> list[asyncio.Future[object]]:
            partitions = await producer.partitions_for(TOPIC)
            return [
                await producer.send(
                    TOPIC,
                    encoded.value,
                    key=encoded.key,
                    partition=partition,
                    headers=encoded.headers,
                )
                for partition in sorted(partitions)
            ]

        await self._acknowledged(send)

    async def _acknowledged(self, send: _Send) -> None:
        producer = await self._open()
        try:
            async with asyncio.timeout(self._wait_s):
                await asyncio.gather(*await send(producer))
        except Exception as error:
            if not is_infrastructure(error) and not isinstance(error, KafkaError):
                raise
            await self._drop(producer)
            raise LogAwayError(type(error).__name__) from error

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
