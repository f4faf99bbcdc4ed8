"""A topic read from its end: what is told now matters, what was told before does not."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from gyral.contracts.events import Event
from gyral.kit import cloudevents
from gyral.kit.backoff import Backoff
from gyral.kit.cloudevents import MalformedEvent
from gyral.kit.db import INFRASTRUCTURE, is_infrastructure
from gyral.kit.telemetry import get_log

E = TypeVar("E", bound=Event)
_MOST = 1000
log = get_log()


class Tail(Generic[E]):
    """Hands on each event that comes from now on, at most once: none is kept, none comes again.

    Every process reads all partitions. After a loss of Kafka it goes on, where it was or at the
    end; while there is none nothing is handed on, which is no sign that nobody tells anything.
    """

    def __init__(
        self, brokers: str, event_type: type[E], on_event: Callable[[E], None]
    ) -> None:
        self.topic = event_type.topic.name
        self._brokers = brokers
        self._event_type = event_type
        self._on_event = on_event
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to listen, without waiting for Kafka."""
        self._task = asyncio.create_task(self._run(), name=f"tail {self.topic}")

    async def stop(self) -> None:
        """Listen no more."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def healthy(self) -> str | None:
        """Answer None while the listening goes on."""
        if self._task is None or self._task.done():
            return f"tail {self.topic}: expected it to read; found it ended"
        return None

    async def _run(self) -> None:
        backoff = Backoff(first_s=0.1, limit_s=5.0)
        while True:
            try:
                await self._read(backoff)
            except (*INFRASTRUCTURE, KafkaError) as error:
                if not is_infrastructure(error):
                    raise
                log.warning("tail.restarted", topic=self.topic, error=type(error).__name__)
            await backoff.wait()

    async def _read(self, backoff: Backoff) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="latest",
            max_poll_records=_MOST,
        )
        try:
            await consumer.start()
            await consumer._client.add_topic(self.topic)  # noqa: SLF001
            numbers = consumer.partitions_for_topic(self.topic)
            if not numbers:
                raise TimeoutError(
                    f"{self.topic}: expected the topic to exist; found none. Run the provision"
                    " job."
                )
            partitions = [TopicPartition(self.topic, number) for number in numbers]
            consumer.assign(partitions)
            await consumer.seek_to_end(*partitions)
            while True:
                self._take(await consumer.getmany(timeout_ms=1000))
                backoff.reset()
        finally:
            await consumer.stop()

    def _take(self, fetched: dict[TopicPartition, list]) -> None:  # type: ignore[type-arg]
        for records in fetched.values():
            for record in records:
                if record.value is None:
                    continue
                try:
                    event = cloudevents.parse(record, self._event_type)
                except MalformedEvent as error:
                    log.warning(
                        "tail.malformed",
                        topic=self.topic,
                        offset=record.offset,
                        error=str(error),
                    )
                    continue
                self._on_event(event)
