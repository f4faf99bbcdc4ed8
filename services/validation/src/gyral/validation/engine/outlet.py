"""What validation itself writes to Kafka: labels and their time."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from gyral.contracts.data import LabelsAccepted, WatermarkAdvanced
from gyral.contracts.events import Delivery
from gyral.kit import cloudevents
from gyral.kit.db import is_infrastructure
from gyral.kit.producer import open_producer

LABELS = LabelsAccepted.topic.name
SOURCE = "/validation"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_WAIT_S = 20.0
_ROWS = 2000
_BYTES = 700_000


@dataclass(frozen=True, slots=True)
class Labels:
    """Accepted rows of a label stream that came from one partition, as columns."""

    stream: str
    partition: int
    keys: Sequence[str]
    event_times: Sequence[int]
    revisions: Sequence[int]
    values: Mapping[str, Sequence[object]]


class Outlet:
    """An idempotent producer, replaced after any failure; the caller repeats what it did."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._producer: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def start(self) -> None:
        """Do nothing yet: the first use connects."""

    async def stop(self) -> None:
        """Disconnect."""
        await self._drop(self._producer)

    def healthy(self) -> str | None:
        """Answer None always: Kafka being away is waited for by the sinks."""
        return None

    async def partitions(self, topic: str) -> list[int]:
        """Return the numbers of a topic's partitions."""
        producer = await self._open()
        async with asyncio.timeout(_WAIT_S):
            return sorted(await producer.partitions_for(topic))

    async def labels(self, columns: Sequence[Labels]) -> None:
        """Return once Kafka has acknowledged the labels; a partition's keep to one partition.

        Raises:
            OSError: Kafka is away; repeat with the same labels.
        """

        async def send(producer: AIOKafkaProducer) -> None:
            count = len(await producer.partitions_for(LABELS))
            sent = []
            for part in columns:
                for value in _encoded(part, 0, len(part.keys)):
                    headers = cloudevents.headers(LABELS, str(uuid.uuid4()), SOURCE)
                    where = part.partition % count
                    key = part.stream.encode()
                    sent.append(
                        await producer.send(
                            LABELS, value, key=key, partition=where, headers=headers
                        )
                    )
            await asyncio.gather(*sent)

        await self._use(send)

    async def mark_labels(self, stream: str, watermark_us: int) -> None:
        """Put a marker behind the labels, in every partition; raises like `labels`."""
        time = _EPOCH + timedelta(microseconds=watermark_us)
        marker = WatermarkAdvanced(subject=stream, event_time=time)
        id_ = str(uuid.uuid4())
        encoded = cloudevents.encode(marker, Delivery(id_, id_), source=SOURCE, topic=LABELS)

        async def send(producer: AIOKafkaProducer) -> None:
            sent = [
                await producer.send(
                    LABELS,
                    encoded.value,
                    key=encoded.key,
                    partition=partition,
                    headers=encoded.headers,
                )
                for partition in sorted(await producer.partitions_for(LABELS))
            ]
            await asyncio.gather(*sent)

        await self._use(send)

    async def _use(self, send: Callable[[AIOKafkaProducer], Awaitable[None]]) -> None:
        producer = await self._open()
        try:
            async with asyncio.timeout(_WAIT_S):
                await send(producer)
        except Exception as error:
            await self._drop(producer)
            if is_infrastructure(error) or isinstance(error, KafkaError):
                raise ConnectionError(f"kafka: {type(error).__name__}") from error
            raise

    async def _open(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = open_producer(self._brokers)
                try:
                    async with asyncio.timeout(_WAIT_S):
                        await producer.start()
                except (KafkaError, OSError) as error:
                    await _close(producer)
                    raise ConnectionError(f"kafka: {type(error).__name__}") from error
                self._producer = producer
            return self._producer

    async def _drop(self, producer: AIOKafkaProducer | None) -> None:
        if producer is not None and producer is self._producer:
            self._producer = None
            await _close(producer)


async def _close(producer: AIOKafkaProducer) -> None:
    with suppress(KafkaError, OSError):
        async with asyncio.timeout(2):
            await producer.stop()


def _encoded(part: Labels, first: int, end: int) -> list[bytes]:
    """Return the rows as few messages of bounded size."""
    if end - first > _ROWS:
        middle = first + _ROWS
        return [*_encoded(part, first, middle), *_encoded(part, middle, end)]
    value = orjson.dumps(
        {
            "stream": part.stream,
            "keys": part.keys[first:end],
            "event_times": part.event_times[first:end],
            "revisions": part.revisions[first:end],
            "values": {name: column[first:end] for name, column in part.values.items()},
        }
    )
    if len(value) <= _BYTES or end - first == 1:
        return [value]
    middle = (first + end) // 2
    return [*_encoded(part, first, middle), *_encoded(part, middle, end)]
