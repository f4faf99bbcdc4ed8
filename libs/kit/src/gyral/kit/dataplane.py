"""The data plane's way in: batches whose output and offsets commit together, zombies fenced."""

import asyncio
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import astuple
from typing import Generic, TypeVar

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import IllegalStateError, KafkaError
from opentelemetry.metrics import CallbackOptions, Observation

from gyral.kit import offsets
from gyral.kit.backoff import Backoff
from gyral.kit.batches import Batch, Partition, Slice, is_marker
from gyral.kit.buffering import Buffer
from gyral.kit.cloudevents import Record
from gyral.kit.db import Pool, is_infrastructure
from gyral.kit.fetching import SinkConsumer
from gyral.kit.flushing import Flusher, Handle, Park, Prepare
from gyral.kit.offsets import Fenced
from gyral.kit.rebalances import Rebalances
from gyral.kit.telemetry import frames, get_log, get_meter
from gyral.kit.tx import Begin, Tx

T = TypeVar("T", bound=Tx)
log = get_log()

__all__ = [
    "Batch",
    "DataPlane",
    "Fenced",
    "Handle",
    "Partition",
    "Record",
    "Slice",
    "is_marker",
]


class LostPlaceError(RuntimeError):
    """The stored offset is none of this topic: going on would skip or repeat records."""


class DataPlane(Generic[T]):
    """Consumes data topics into a sink; Postgres, not the group, knows how far it got.

    The handler gets a batch, writes its output, then enters `async with batch.commit() as tx`.
    Infrastructure errors repeat the batch for ever; any other error repeats it `retries` times,
    then by halves until the record to blame is alone. It is parked, or the loop ends and
    `healthy` says so: no record is ever skipped.

    Args:
        prepare: does the part of a batch's work that depends on its records alone, while the
            batch before is still written, and returns what handles this one. That serves the
            first attempt at the very slices it was made of, else it is dropped; `handle` does
            the whole work.
        park: commits a batch of one record that `handle` fails at, kept where it is seen and
            may be replayed; without it such a record stops the line, as ten in a row do.
    """

    def __init__(
        self,
        brokers: str,
        *,
        group: str,
        topics: Sequence[str],
        begin: Begin[T],
        pool: Pool,
        handle: Handle[T],
        prepare: Prepare[T] | None = None,
        park: Park[T] | None = None,
        max_records: int = 5000,
        max_bytes: int = 16 << 20,
        max_wait_s: float = 1.0,
        instance_id: str | None = None,
        retries: int = 3,
        patience_s: float = 60.0,
        stuck_after_s: float = 300.0,
    ) -> None:
        self.group = group
        self._brokers = brokers
        self._topics = tuple(topics)
        self._pool = pool
        self._max_wait_s = max_wait_s
        self._instance_id = instance_id
        self._flusher = Flusher(
            group, begin, handle, prepare, park, retries=retries, patience_s=patience_s
        )
        self._next: dict[Partition, int | None] = {}
        self._buffer = Buffer(max_records, max_bytes)
        self._written: tuple[Slice, ...] = ()
        self._consumer: AIOKafkaConsumer | None = None
        self._stopping = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stuck_after_s = stuck_after_s
        self._turned_s = time.monotonic()
        self._fault: Exception | None = None
        meter = get_meter()
        self._records = meter.create_counter(
            "gyral_sink_records", description="Records committed"
        )
        self._fenced = meter.create_counter("gyral_sink_fenced", description="Batches given up")
        self._lost = meter.create_counter(
            "gyral_sink_lost", description="Records that Kafka dropped before they were read"
        )
        meter.create_observable_gauge(
            "gyral_consumer_lag", [self._observe_lag], description="Records not yet consumed"
        )

    async def start(self) -> None:
        """Start consuming in the background."""
        self._stopping.clear()
        self._turned_s = time.monotonic()
        self._task = asyncio.create_task(self.run(), name=f"dataplane {self.group}")

    async def stop(self, *, drain_s: float = 15.0) -> None:
        """Let the batch in hand commit, then leave; what is buffered is read again."""
        self._stopping.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=drain_s)
        self._task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await self._task
        self._task = None

    def healthy(self) -> str | None:
        """Answer None while the loop lives."""
        if self._task is None:
            return f"dataplane {self.group}: expected it to run; found it not started"
        if self._task.done():
            error = None if self._task.cancelled() else self._task.exception()
            return f"dataplane {self.group}: the loop has ended: {type(error).__name__}"
        idle_s = time.monotonic() - max(self._turned_s, self._flusher.progressed_s)
        if idle_s > self._stuck_after_s:
            return f"dataplane {self.group}: the loop has not turned for {idle_s:.0f} s"
        return None

    def ready(self) -> str | None:
        """Answer None once partitions are assigned and positioned."""
        return None if self._next else f"dataplane {self.group}: no partitions assigned yet"

    def lag(self) -> Mapping[Partition, int]:
        """Return the records not yet committed, by partition."""
        consumer = self._consumer
        if consumer is None:
            return {}
        found = {}
        for at, upcoming in self._next.items():
            with suppress(IllegalStateError):
                highwater = consumer.highwater(_place(at))
                if highwater is not None:
                    found[at] = max(0, highwater - (upcoming or 0))
        return found

    async def run(self) -> None:
        """Consume until stopped; a Kafka that is away is waited for.

        Raises:
            Exception: the handler failed `retries` times at what could not be parked.
        """
        backoff = Backoff(first_s=0.2, limit_s=5.0)
        while not self._stopping.is_set():
            try:
                await self._session(backoff)
            except Exception as error:  # the kit's one consumer loop
                if not is_infrastructure(error):
                    log.critical(
                        "dataplane.ended",
                        group=self.group,
                        error=type(error).__name__,
                        stack=frames(error),
                    )
                    raise
                log.warning("dataplane.restarted", group=self.group, error=type(error).__name__)
                await backoff.wait()

    async def _session(self, backoff: Backoff) -> None:
        consumer = SinkConsumer(
            bootstrap_servers=self._brokers,
            group_id=self.group,
            group_instance_id=self._instance_id,
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            max_poll_interval_ms=600_000,
            fetch_max_wait_ms=100,
            max_partition_fetch_bytes=1 << 20,
        )
        consumer.subscribe(self._topics, listener=Rebalances(self._revoked, self._assigned))
        self._consumer = consumer
        try:
            await consumer.start()
            await self._consume(consumer, backoff)
        finally:
            self._consumer = None
            self._next.clear()
            self._buffer.take()
            with suppress(KafkaError):
                await consumer.stop()

    async def _consume(self, consumer: AIOKafkaConsumer, backoff: Backoff) -> None:
        """Fetch and prepare a batch while the last one is written: one of each, never more."""
        writing: asyncio.Task[None] | None = None
        try:
            while not self._stopping.is_set():
                await self._fill(consumer, backoff, writing)
                if writing is not None:
                    await self._prepare(writing)
                    await writing
                if not self._stopping.is_set():
                    self._written = tuple(_slices(self._buffer.take(), self._next))
                    writing = asyncio.create_task(self._flush(consumer, self._written))
        except asyncio.CancelledError:
            if writing is not None:
                writing.cancel()
            raise
        finally:
            # What was fetched before a fault can be committed all the same.
            if writing is not None:
                await asyncio.wait({writing})

    async def _fill(
        self,
        consumer: AIOKafkaConsumer,
        backoff: Backoff,
        writing: asyncio.Task[None] | None,
    ) -> None:
        """Return once what is buffered is to be written, or it is time to stop."""
        loop = asyncio.get_running_loop()
        oldest_s: float | None = None
        while not self._stopping.is_set():
            if self._fault is not None:
                raise self._fault
            if writing is None or writing.done():
                self._turned_s = time.monotonic()
                if writing is not None:
                    writing.result()
            now_s = loop.time()
            due_s = self._max_wait_s + (0.0 if oldest_s is None else oldest_s - now_s)
            fetched = await consumer.getmany(
                timeout_ms=int(min(0.2, max(0.0, due_s)) * 1000),
                max_records=self._buffer.max_records - len(self._buffer),
            )
            marked = self._keep(fetched)
            backoff.reset()
            if not len(self._buffer):
                oldest_s = None
                continue
            oldest_s = loop.time() if oldest_s is None else oldest_s
            if self._buffer.is_full() or marked or loop.time() - oldest_s >= self._max_wait_s:
                return

    def _keep(self, fetched: Mapping[TopicPartition, Sequence[Record]]) -> bool:
        """Buffer what is of partitions we hold; True when a marker is among it."""
        marked = False
        for place, records in fetched.items():
            at = Partition(place.topic, place.partition)
            if at in self._next:
                self._buffer.add(at, records)
                marked = marked or any(map(is_marker, records))
        return marked

    async def _prepare(self, writing: asyncio.Task[None]) -> None:
        """Prepare what is buffered, as it will be once what is being written has committed."""
        if writing.done() or self._stopping.is_set():
            return
        held = [part for part in self._written if part.place in self._next]
        ends = {part.place: part.next_offset for part in held}
        await self._flusher.prepare(tuple(_slices(self._buffer.peek(), self._next | ends)))

    async def _flush(self, consumer: AIOKafkaConsumer, slices: tuple[Slice, ...]) -> None:
        try:
            if slices:
                await self._write(consumer, slices)
        finally:
            self._written = ()

    async def _write(self, consumer: AIOKafkaConsumer, slices: tuple[Slice, ...]) -> None:
        try:
            await self._flusher.flush(slices)
        except Fenced as fenced:
            self._fenced.add(1, {"group": self.group})
            log.warning("dataplane.fenced", group=self.group, reason=str(fenced))
            held = consumer.assignment()
            lost = [_place(part.place) for part in slices]
            await self._position(consumer, [at for at in lost if at in held])
            return
        for part in slices:
            if part.place in self._next:
                self._next[part.place] = part.next_offset
            self._records.add(len(part.records), {"group": self.group, "topic": part.topic})
        await self._tell_group(consumer, slices)

    async def _tell_group(self, consumer: AIOKafkaConsumer, slices: Sequence[Slice]) -> None:
        """Commit to the group too, for whoever looks at lag; the truth is in Postgres."""
        held = consumer.assignment()
        reached = {_place(part.place): part.next_offset for part in slices}
        with suppress(KafkaError):
            await consumer.commit({at: offset for at, offset in reached.items() if at in held})

    async def _position(
        self, consumer: AIOKafkaConsumer, places: Collection[TopicPartition]
    ) -> None:
        """Continue at the stored offsets, whatever was fetched or believed before."""
        self._revoked(places)
        begins = await consumer.beginning_offsets(list(places))
        ends = await consumer.end_offsets(list(places))
        for place in places:
            at = Partition(place.topic, place.partition)
            stored = await offsets.stored(self._pool, self.group, *astuple(at))
            if place not in consumer.assignment():
                continue  # lost while we asked: its next owner asks for itself
            start = self._start(at, stored, begins[place], ends[place])
            self._next[at] = stored
            consumer.seek(place, start)

    def _start(self, at: Partition, stored: int | None, begin: int, end: int) -> int:
        """Return the offset to fetch from, given those that Kafka still has.

        Raises:
            LostPlaceError: the stored offset lies beyond the end, so this is another topic.
        """
        if stored is not None and stored > end:
            raise LostPlaceError(
                f"{self.group}: {at.topic}/{at.partition}: expected to continue at {stored};"
                f" found records up to {end}: was the topic made anew? Restore it, or remove"
                " its rows from sink_offset to read it from the start"
            )
        if stored is not None and stored < begin:
            lost = begin - stored
            self._lost.add(lost, {"group": self.group, "topic": at.topic})
            log.critical(
                "dataplane.records_lost", group=self.group, partition=str(at), count=lost
            )
        return max(stored or 0, begin)

    async def _assigned(self, places: Collection[TopicPartition]) -> None:
        """Position patiently: an error here would end aiokafka's coordinator."""
        backoff = Backoff()
        consumer = self._consumer
        while consumer is not None and consumer is self._consumer:
            try:
                await self._position(consumer, places)
            except Exception as error:  # noqa: BLE001 - it ends our own loop, not aiokafka's
                if not is_infrastructure(error):
                    self._fault = error
                    return
                log.warning(
                    "dataplane.not_positioned", group=self.group, error=type(error).__name__
                )
                await backoff.wait()
            else:
                log.info("dataplane.assigned", group=self.group, partitions=len(places))
                return

    def _revoked(self, places: Collection[TopicPartition]) -> None:
        for place in places:
            at = Partition(place.topic, place.partition)
            self._buffer.drop(at)
            self._next.pop(at, None)

    def _observe_lag(self, _options: CallbackOptions) -> list[Observation]:
        return [
            Observation(
                behind, {"group": self.group, "topic": at.topic, "partition": at.partition}
            )
            for at, behind in self.lag().items()
        ]


def _place(at: Partition) -> TopicPartition:
    return TopicPartition(at.topic, at.partition)


def _slices(
    buffered: Mapping[Partition, Sequence[Record]], stands: Mapping[Partition, int | None]
) -> Iterator[Slice]:
    """Yield what of the buffered is still to be written, given how far each partition stands.

    A partition may have been lost and won again while its last slice was committed: then
    its records were fetched from where it stood before.
    """
    for at, records in sorted(buffered.items()):
        if at not in stands:
            continue
        first = stands[at]
        left = tuple(records)
        if first is not None and records[0].offset < first:
            left = tuple(record for record in records if record.offset >= first)
        if left:
            yield Slice(at.topic, at.partition, left, first)
