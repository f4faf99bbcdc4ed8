"""Where the partitions of a topic end now, as Kafka says and not as last fetched."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

_WAIT_S = 10.0


class Ends:
    """A consumer that consumes nothing."""

    def __init__(self, brokers: str) -> None:
        self._brokers = brokers
        self._consumer: AIOKafkaConsumer | None = None

    async def start(self) -> None:
        """Do nothing yet: the first question connects."""

    async def stop(self) -> None:
        """Disconnect."""
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(KafkaError, OSError):
                await consumer.stop()

    def healthy(self) -> str | None:
        """Answer None always: it only answers questions."""
        return None

    async def of(self, topic: str, partitions: Sequence[int]) -> dict[int, int]:
        """Return the next offset that will be written, by partition.

        Raises:
            OSError: Kafka is away.
        """
        try:
            async with asyncio.timeout(_WAIT_S):
                consumer = await self._open()
                places = [TopicPartition(topic, partition) for partition in partitions]
                ends = await consumer.end_offsets(places)
        except (KafkaError, OSError) as error:
            await self.stop()
            raise ConnectionError(f"kafka: {type(error).__name__}") from error
        return {place.partition: end for place, end in ends.items()}

    async def _open(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(bootstrap_servers=self._brokers, group_id=None)
            await consumer.start()
            self._consumer = consumer
        return self._consumer
