"""The data plane's way in: batches whose output and offsets commit together, fenced against zombies."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from opentelemetry.metrics import CallbackOptions, Observation

from gyral.contracts.data import WatermarkAdvanced
from gyral.kit import cloudevents, offsets
from gyral.kit.backoff import Backoff
from gyral.kit.db import INFRASTRUCTURE, Pool, is_infrastructure
from gyral.kit.offsets import Fenced
from gyral.kit.telemetry import Sometimes, get_log, get_meter
from gyral.kit.tx import Begin, Tx

T = TypeVar("T", bound=Tx)
RawRecord = ConsumerRecord[bytes | None, bytes | None]
MARKER = WatermarkAdvanced.topic.name
"""`ce_type` of the records that make a sink flush at once."""
log = get_log()


@dataclass(frozen=True, slots=True, order=True)
class Partition:
    """One partition of one topic."""

    topic: str
    partition: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Consecutive records of one partition, oldest first."""

    topic: str
    partition: int
    records: tuple[RawRecord, ...]
    first_offset: int | None
    """The stored offset the slice continues; None on the very first commit."""

    @property
    def next_offset(self) -> int:
        """The offset that is stored when the slice commits."""
        return self.records[-1].offset + 1

    @property
    def place(self) -> Partition:
        """Where the records lie."""
        return Partition(self.topic, self.partition)


@dataclass(slots=True)
class Batch(Generic[T]):
    """What a handler gets: slices to process, and the one transaction that makes it count."""

    slices: tuple[Slice, ...]
    _sink: str
    _begin: Begin[T]
    committed: bool = field(default=False, init=False)

    def __len__(self) -> int:
        return sum(len(part.records) for part in self.slices)

    @asynccontextmanager
    async def commit(self) -> AsyncIterator[T]:
        """Open the transaction that moves the offsets; write the output in it, or before it if it is idempotent.

        Raises:
            Fenced: another process has these partitions; let it pass, the kit starts over.
        """
        async with self._begin() as tx:
            moves = [(part.topic, part.partition, part.first_offset, part.next_offset) for part in self.slices]
            await offsets.advance(tx.conn, self._sink, moves)
            yield tx
        self.committed = True


def is_marker(record: cloudevents.Record) -> bool:
    """Tell a marker of event time from data, by its header alone."""
    return any(name == "ce_type" and value == MARKER.encode() for name, value in record.headers)


class DataPlane(Generic[T]):
    """Consumes data topics into a sink; Postgres, not the group, knows how far it got.

    The handler gets a batch, writes its output, then enters `async with batch.commit() as tx`.
    Infrastructure errors repeat the batch for ever; any other error repeats it `retries` times, then
    the loop ends and `healthy` says so: no record is ever skipped.
    """

    def __init__(  # noqa: PLR0913 - the knobs of one consumer
        self,
        brokers: str,
        *,
        group: str,
        topics: Sequence[str],
        begin: Begin[T],
        pool: Pool,
        handle: Callable[[Batch[T]], Awaitable[None]],
        max_records: int = 5000,
        max_wait_s: float = 1.0,
        instance_id: str | None = None,
        retries: int = 5,
        on_assigned: Callable[[frozenset[Partition]], Awaitable[None]] | None = None,
    ) -> None:
        self.group = group
        self._brokers = brokers
        self._topics = tuple(topics)
        self._begin = begin
        self._pool = pool
        self._handle = handle
        self._max_records = max_records
        self._max_wait_s = max_wait_s
        self._instance_id = instance_id
        self._retries = retries
        self._on_assigned = on_assigned
        self._next: dict[TopicPartition, int | None] = {}
        self._buffer: dict[TopicPartition, list[RawRecord]] = {}
        self._consumer: AIOKafkaConsumer | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._spans = Sometimes()
        meter = get_meter()
        self._records = meter.create_counter("gyral_sink_records", description="Records committed by a sink")
        self._fenced = meter.create_counter("gyral_sink_fenced", description="Batches another process had written")
        meter.create_observable_gauge("gyral_consumer_lag", [self._observe_lag], description="Records not yet consumed")

    async def start(self) -> None:
        """Start consuming in the background."""
        self._stopping.clear()
        self._task = asyncio.create_task(self._run(), name=f"sink {self.group}")

    async def stop(self) -> None:
        """Finish the batch in hand and leave the group; what is buffered is read again by the next owner."""
        self._stopping.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=30)
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def healthy(self) -> str | None:
        """Answer None while the loop lives."""
        if self._task is None:
            return f"sink {self.group}: expected it to run; found it not started"
        if self._task.done() and not self._stopping.is_set():
            error = None if self._task.cancelled() else self._task.exception()
            return f"sink {self.group}: the loop has ended: {type(error).__name__}: {error}"
        return None

    async def _run(self) -> None:
        """Consume until stopped; Kafka away means a new consumer, anything else ends the loop."""
        backoff = Backoff(first_s=0.2, limit_s=5.0)
        while not self._stopping.is_set():
            try:
                await self._session(backoff)
            except (*INFRASTRUCTURE, KafkaError) as error:
                if not is_infrastructure(error):
                    raise
                log.warning("sink.restarted", sink=self.group, error=type(error).__name__)
                await backoff.wait()

    async def _session(self, backoff: Backoff) -> None:
        consumer = AIOKafkaConsumer(
            bootstrap_servers=self._brokers,
            group_id=self.group,
            group_instance_id=self._instance_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            max_poll_interval_ms=300_000,
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=4 << 20,
        )
        self._consumer = consumer
        consumer.subscribe(self._topics, listener=_SeekToStored(self))
        await consumer.start()
        try:
            await self._consume(consumer, backoff)
        finally:
            self._consumer = None
            self._buffer.clear()
            self._next.clear()
            with suppress(*INFRASTRUCTURE, KafkaError):
                await consumer.stop()

    async def _consume(self, consumer: AIOKafkaConsumer, backoff: Backoff) -> None:
        loop = asyncio.get_running_loop()
        since = loop.time()
        while not self._stopping.is_set():
            room = self._max_records - self._buffered()
            fetched = await consumer.getmany(timeout_ms=50 if self._buffer else 200, max_records=max(room, 1))
            if fetched and not self._buffer:
                since = loop.time()
            marked = self._take(fetched)
            backoff.reset()
            waited = loop.time() - since
            if self._buffer and (marked or waited >= self._max_wait_s or self._buffered() >= self._max_records):
                await self._flush(consumer)

    def _take(self, fetched: Mapping[TopicPartition, list[RawRecord]]) -> bool:
        """Buffer records of partitions we hold, at or after their stored offset; True when one is a marker."""
        marked = False
        for place, records in fetched.items():
            if place not in self._next:
                continue
            stored = self._next[place] or 0
            fresh = [record for record in records if record.offset >= stored]
            if fresh:
                self._buffer.setdefault(place, []).extend(fresh)
                marked = marked or any(is_marker(record) for record in fresh)
        return marked

    def _buffered(self) -> int:
        return sum(map(len, self._buffer.values()))

    async def _flush(self, consumer: AIOKafkaConsumer) -> None:
        """Hand the buffer to the handler until it is committed or proves not ours."""
        backoff = Backoff()
        attempts = 0
        while self._buffer and not self._stopping.is_set():
            batch = self._batch()
            try:
                with self._spans.span("sink.flush", sink=self.group, records=len(batch)):
                    await self._handle(batch)
                if not batch.committed:
                    raise RuntimeError(f"sink {self.group}: expected the handler to commit its batch; it did not")
            except Fenced as fenced:
                self._fenced.add(1)
                log.warning("sink.fenced", sink=self.group, reason=str(fenced))
                await self._start_over(consumer)
                return
            except Exception as error:  # noqa: BLE001 - the data plane's one consumer loop
                if not is_infrastructure(error):
                    attempts += 1
                    log.error("sink.failed", sink=self.group, attempt=attempts, exc_info=error)
                    if attempts > self._retries:
                        raise RuntimeError(f"batch at {batch.slices[0].place}: {type(error).__name__}") from error
                await backoff.wait()
            else:
                self._settle(batch)
                return

    def _batch(self) -> Batch[T]:
        slices = tuple(
            Slice(place.topic, place.partition, tuple(records), self._next[place])
            for place, records in sorted(self._buffer.items())
        )
        return Batch(slices, self.group, self._begin)

    def _settle(self, batch: Batch[T]) -> None:
        """Forget what is committed; a partition lost meanwhile is forgotten already."""
        for part in batch.slices:
            place = TopicPartition(part.topic, part.partition)
            if place in self._next:
                self._next[place] = part.next_offset
            self._buffer.pop(place, None)
        self._records.add(len(batch), {"sink": self.group})

    async def _start_over(self, consumer: AIOKafkaConsumer) -> None:
        """Drop what is buffered and continue where Postgres says."""
        self._buffer.clear()
        await self.assigned(consumer.assignment())

    async def assigned(self, places: Collection[TopicPartition]) -> None:
        """Seek partitions to their stored offsets; the rebalance listener calls it."""
        assert self._consumer is not None  # noqa: S101
        for place in places:
            self._buffer.pop(place, None)
            stored = await offsets.stored(self._pool, self.group, place.topic, place.partition)
            self._next[place] = stored
            if stored is None:
                await self._consumer.seek_to_beginning(place)
            else:
                self._consumer.seek(place, stored)
        if self._on_assigned is not None:
            await self._on_assigned(frozenset(Partition(place.topic, place.partition) for place in self._next))

    def revoked(self, places: Collection[TopicPartition]) -> None:
        """Drop what is buffered of partitions that are no longer ours."""
        for place in places:
            self._next.pop(place, None)
            self._buffer.pop(place, None)

    def _observe_lag(self, _options: CallbackOptions) -> list[Observation]:
        consumer = self._consumer
        if consumer is None:
            return []
        found = []
        for place, stored in self._next.items():
            end = consumer.highwater(place)
            if end is not None:
                labels = {"sink": self.group, "topic": place.topic, "partition": place.partition}
                found.append(Observation(max(0, end - (stored or 0)), labels))
        return found


class _SeekToStored(ConsumerRebalanceListener, Generic[T]):
    """Tells a sink which partitions came and went."""

    def __init__(self, sink: DataPlane[T]) -> None:
        self._sink = sink

    async def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        """Drop what was buffered."""
        self._sink.revoked(revoked)

    async def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Continue where Postgres says, whatever the group believes."""
        backoff = Backoff()
        while True:
            try:
                return await self._sink.assigned(assigned)
            except INFRASTRUCTURE as error:
                log.warning("sink.offsets_unread", error=type(error).__name__)
                await backoff.wait()
