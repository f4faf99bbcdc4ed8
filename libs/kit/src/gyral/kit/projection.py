"""What a service knows of others: the latest event of each key of a compacted topic."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Generic, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from gyral.contracts.events import Event
from gyral.kit import cloudevents
from gyral.kit.backoff import Backoff
from gyral.kit.changes import Changes
from gyral.kit.cloudevents import MalformedEvent
from gyral.kit.db import INFRASTRUCTURE, is_infrastructure
from gyral.kit.snapshots import Snapshot
from gyral.kit.telemetry import get_log

E = TypeVar("E", bound=Event)
OnChange = Callable[[str, E | None], Awaitable[None] | None]
log = get_log()


class Projection(Generic[E]):
    """Reads one compacted topic from the beginning, all partitions, and stays current.

    Args:
        on_change: called with (key, event or None) after each change, in the topic's order.
        snapshot: a file to start from when Kafka does not answer within `snapshot_after_s`.
    """

    def __init__(
        self,
        brokers: str,
        event_type: type[E],
        *,
        on_change: OnChange[E] | None = None,
        snapshot: Path | None = None,
        snapshot_after_s: float = 5.0,
    ) -> None:
        self.topic = event_type.topic.name
        self._brokers = brokers
        self._event_type = event_type
        self._on_change = [on_change] if on_change else []
        self._snapshot = Snapshot(snapshot, event_type) if snapshot else None
        self._snapshot_after_s = snapshot_after_s
        self._events: dict[str, E] = {}
        self._read_to: dict[TopicPartition, int] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._changes = Changes()
        self._caught_up = asyncio.Event()
        self._loaded = False
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, on_change: OnChange[E]) -> None:
        """Have a further callback called after each change; before `start`."""
        self._on_change.append(on_change)

    def get(self, key: str) -> E | None:
        """Return the latest event of a key, or None."""
        return self._events.get(key)

    def values(self) -> Sequence[E]:
        """Return the latest event of every key, as they are now."""
        return tuple(self._events.values())

    def generation(self, key: str) -> int | None:
        """Return the generation of a key's latest event, or None when there is none."""
        event = self._events.get(key)
        return None if event is None else generation_of(event)

    def generations(self) -> Mapping[str, int]:
        """Return the generation of every key, for `/v1/projections`."""
        return {key: generation_of(event) for key, event in sorted(self._events.items())}

    async def start(self) -> None:
        """Return once everything is known that was on the topic when the reading began."""
        self._task = asyncio.create_task(self._run(), name=f"projection {self.topic}")
        if self._snapshot is None:
            return await self._until_caught_up()
        try:
            async with asyncio.timeout(self._snapshot_after_s):
                await self._until_caught_up()
        except TimeoutError:
            await self._start_from_snapshot()
            if not self._loaded:
                await self._until_caught_up()

    async def stop(self) -> None:
        """Stop reading; what is known stays."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def refresh(self, *, timeout_s: float = 10.0) -> None:
        """Return once everything is known that is on the topic now.

        Raises:
            TimeoutError: Kafka did not answer in time.
        """
        async with asyncio.timeout(timeout_s):
            await self._until_caught_up()
            ends = await self._end_offsets()
            while not await self._changes.wait_until(lambda: self._has_read(ends), timeout_s):
                continue

    def healthy(self) -> str | None:
        """Answer None while the reading goes on."""
        if self._task is None or self._task.done():
            return f"projection {self.topic}: expected it to read; found it ended"
        return None

    def ready(self) -> str | None:
        """Answer None once the state is usable: caught up once, or taken from the snapshot."""
        return None if self._loaded else f"projection {self.topic}: not read to its end yet"

    async def _until_caught_up(self) -> None:
        assert self._task is not None, "start() first"  # noqa: S101
        waiting = asyncio.create_task(self._caught_up.wait())
        try:
            await asyncio.wait({waiting, self._task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self._task.done():
            self._task.result()

    async def _start_from_snapshot(self) -> None:
        assert self._snapshot is not None  # noqa: S101
        for event in self._snapshot.load():
            if event.key not in self._events:
                await self._set(event.key, event)
            self._loaded = True
        log.warning("projection.from_snapshot", topic=self.topic, keys=len(self._events))

    async def _run(self) -> None:
        backoff = Backoff(first_s=0.1, limit_s=5.0)
        while True:
            try:
                await self._read(backoff)
            except (*INFRASTRUCTURE, KafkaError) as error:
                if not is_infrastructure(error):
                    raise
                log.warning(
                    "projection.restarted", topic=self.topic, error=type(error).__name__
                )
            await backoff.wait()

    async def _read(self, backoff: Backoff) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            # Kafka answers as soon as there is something; this is how often it says "nothing",
            # and how long it lets wait who asks for the topic's end behind such a fetch.
            fetch_max_wait_ms=500,
        )
        try:
            await consumer.start()
            partitions = await self._partitions(consumer)
            consumer.assign(partitions)
            await consumer.seek_to_beginning(*partitions)
            ends = await consumer.end_offsets(partitions)
            self._consumer = consumer
            seen: set[str] = set()
            self._read_to = dict.fromkeys(partitions, 0)
            while True:
                await self._poll(consumer, seen)
                if not self._caught_up.is_set() and self._has_read(ends):
                    await self._settle(seen)
                backoff.reset()
        finally:
            self._consumer = None
            await consumer.stop()

    async def _partitions(self, consumer: AIOKafkaConsumer) -> list[TopicPartition]:
        await consumer._client.add_topic(self.topic)  # noqa: SLF001
        numbers = consumer.partitions_for_topic(self.topic)
        if not numbers:
            raise TimeoutError(
                f"{self.topic}: expected the topic to exist; found none. Run the provision job."
            )
        return [TopicPartition(self.topic, number) for number in sorted(numbers)]

    async def _poll(self, consumer: AIOKafkaConsumer, seen: set[str]) -> None:
        fetched = await consumer.getmany(timeout_ms=200)
        for records in fetched.values():
            for record in records:
                await self._take(record, seen)
        for partition in self._read_to:
            self._read_to[partition] = await consumer.position(partition)
        self._changes.notify()

    async def _settle(self, seen: set[str]) -> None:
        """Forget what only an old snapshot knew, keep the new state, and say so."""
        for key in [key for key in self._events if key not in seen]:
            await self._set(key, None)
        self._loaded = True
        self._caught_up.set()
        self._save()

    async def _take(
        self, record: ConsumerRecord[bytes | None, bytes | None], seen: set[str]
    ) -> None:
        if record.value is None:
            key = (record.key or b"").decode("utf-8", "replace")
            seen.discard(key)
            await self._set(key, None)
            return
        try:
            event = cloudevents.parse(record, self._event_type)
        except MalformedEvent as error:
            log.warning(
                "projection.malformed", topic=self.topic, offset=record.offset, error=str(error)
            )
            return
        seen.add(event.key)
        known = self._events.get(event.key)
        if known is not None and generation_of(event) < generation_of(known):
            return
        await self._set(event.key, event)

    async def _set(self, key: str, event: E | None) -> None:
        if event is None:
            if self._events.pop(key, None) is None:
                return
        else:
            self._events[key] = event
        for callback in self._on_change:
            waiting = callback(key, event)
            if inspect.isawaitable(waiting):
                await waiting
        if self._caught_up.is_set():
            self._save()

    def _save(self) -> None:
        if self._snapshot is not None:
            self._snapshot.save(self._events.values())

    async def _end_offsets(self) -> Mapping[TopicPartition, int]:
        backoff = Backoff(first_s=0.05, limit_s=1.0)
        while True:
            consumer = self._consumer
            if consumer is not None:
                with suppress(*INFRASTRUCTURE, KafkaError):
                    ends: Mapping[TopicPartition, int] = await consumer.end_offsets(
                        list(self._read_to)
                    )
                    return ends
            await backoff.wait()

    def _has_read(self, ends: Mapping[TopicPartition, int]) -> bool:
        return all(self._read_to.get(partition, -1) >= end for partition, end in ends.items())


def generation_of(event: Event) -> int:
    """Return an event's generation; 0 for events that do not count them."""
    generation = getattr(event, "generation", 0)
    return generation if isinstance(generation, int) else 0
