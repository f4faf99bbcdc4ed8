"""To Kafka until acknowledged: what the journal holds, in its order, and pins."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.producer.message_accumulator import BatchBuilder

from gyral.contracts.data import WatermarkAdvanced
from gyral.contracts.deployment import RoutePinned
from gyral.contracts.inference import PredictionLogged
from gyral.gateway.domain.pins import event_id
from gyral.gateway.store.kinds import Kind
from gyral.gateway.store.pins import PinFiles
from gyral.kit import cloudevents
from gyral.kit.backoff import Backoff
from gyral.kit.db import INFRASTRUCTURE
from gyral.kit.journal import Journal
from gyral.kit.partitioning import partitions_of
from gyral.kit.producer import open_producer
from gyral.kit.segments import Entry, Position
from gyral.kit.telemetry import get_log

_TOPIC = PredictionLogged.topic.name
_SOURCE = "gyral/gateway"
_LINGER_S = 0.03
"""How long entries are collected unless there are many: a request to Kafka costs as much as
a hundred entries in it."""
_MANY_BYTES = 1 << 20
_TURN = 64
"""Entries taken apart before answers get their turn."""
_ACK_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0
_OWN = ("ce_id", "ce_time")
_OF_PREDICTIONS = [
    header for header in cloudevents.headers(_TOPIC, "", _SOURCE) if header[0] not in _OWN
]
"""Headers that all predictions have."""
log = get_log()


class Forwarder:
    """Sends what the journal holds: entries at least once, markers after all before them."""

    def __init__(self, brokers: str, journal: Journal) -> None:
        self._brokers = brokers
        self._journal = journal
        self._task: asyncio.Task[None] | None = None
        self._at = Position(0, 0)
        self._idle = asyncio.Event()

    async def start(self) -> None:
        """Open the journal and start sending what an earlier process left in it."""
        await self._journal.open()
        self._at = self._journal.acked
        self._task = asyncio.create_task(self._run(), name="forwarder")

    async def stop(self) -> None:
        """Send what is left, if Kafka takes it in good time, and close the journal."""
        if self._task is None:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await self._drained()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        self._journal.close()

    def healthy(self) -> str | None:
        """Answer None while the sending goes on and the journal can be written."""
        if self._task is None or self._task.done():
            return "forwarder: expected it to send; found it ended"
        return self._journal.writable()

    async def _drained(self) -> None:
        while self._journal.pending_bytes:
            self._idle.clear()
            await self._idle.wait()

    async def _run(self) -> None:
        """Send until cancelled; after a failure with a new producer, from the last ack on."""
        backoff = Backoff(first_s=0.1, limit_s=5.0)
        while True:
            try:
                async with _producer(self._brokers) as producer:
                    while True:
                        await self._forward(producer)
                        backoff.reset()
            except (*INFRASTRUCTURE, KafkaError) as error:
                log.warning("journal.waits_for_kafka", error=type(error).__name__)
            await backoff.wait()

    async def _forward(self, producer: AIOKafkaProducer) -> None:
        """Send the next entries and acknowledge them; wait when there are none."""
        batch = await self._journal.read(self._at)
        if not batch:
            self._idle.set()
            await self._journal.wait()
            return
        before_marker: list[tuple[Entry, Position]] = []
        for entry, position in batch:
            if entry.kind == Kind.MARKER:
                await self._send_predictions(producer, before_marker)
                before_marker = []
                await self._send_marker(producer, entry)
                self._acked(position)
            else:
                before_marker.append((entry, position))
        await self._send_predictions(producer, before_marker)
        if self._journal.pending_bytes < _MANY_BYTES:
            await asyncio.sleep(_LINGER_S)

    async def _send_predictions(
        self, producer: AIOKafkaProducer, entries: Sequence[tuple[Entry, Position]]
    ) -> None:
        if entries:
            await _send_together(producer, [entry for entry, _ in entries])
            self._acked(entries[-1][1])

    async def _send_marker(self, producer: AIOKafkaProducer, entry: Entry) -> None:
        """Put the marker into every partition: what was answered before it lies before it."""
        key = entry.id.encode()
        async with asyncio.timeout(_ACK_TIMEOUT_S):
            acks = [
                await producer.send(
                    _TOPIC,
                    key=key,
                    value=entry.payload,
                    headers=cloudevents.headers(
                        WatermarkAdvanced.topic.name,
                        f"{entry.id}-{at}",
                        _SOURCE,
                        time=_time(entry),
                    ),
                    partition=at,
                )
                for at in sorted(await producer.partitions_for(_TOPIC))
            ]
            await asyncio.gather(*acks)

    def _acked(self, position: Position) -> None:
        self._at = position
        self._journal.ack(position)


class Announcer:
    """Tells the deployer of pins until Kafka has them; keeps each on disk until it was adopted.

    A pin is told again by every process that finds its file, under the same id.
    """

    def __init__(self, brokers: str, files: PinFiles) -> None:
        self._brokers = brokers
        self._files = files
        self._on_found: list[Callable[[RoutePinned], None]] = []
        self._waiting: deque[RoutePinned] = deque()
        self._told: set[str] = set()
        self._over: dict[str, RoutePinned] = {}
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def subscribe(self, on_found: Callable[[RoutePinned], None]) -> None:
        """Have a callback called with each pin that an earlier process left; before `start`."""
        self._on_found.append(on_found)

    async def start(self) -> None:
        """Let the pins of an earlier process hold again, before any request is answered."""
        for pinned in await asyncio.to_thread(self._files.load):
            for callback in self._on_found:
                callback(pinned)
            self.tell(pinned)
        self._task = asyncio.create_task(self._run(), name="announcer")

    async def stop(self) -> None:
        """Stop telling; what nobody knows yet is on disk."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def healthy(self) -> str | None:
        """Answer None while it goes on."""
        if self._task is None or self._task.done():
            return "announcer: expected it to run; found it ended"
        return None

    def tell(self, pinned: RoutePinned) -> None:
        """Tell of a pin that is on disk."""
        self._waiting.append(pinned)
        self._wake.set()

    def forget(self, pinned: RoutePinned) -> None:
        """Remove a pin that holds no more, once it was told: its audit hangs on that."""
        self._over[event_id(pinned)] = pinned
        self._wake.set()

    async def _run(self) -> None:
        backoff = Backoff(first_s=0.1, limit_s=5.0)
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting or self._over.keys() & self._told:
                try:
                    await self._tell_all()
                    await self._forget_all()
                    backoff.reset()
                except (*INFRASTRUCTURE, KafkaError) as error:
                    log.warning("pin.waits", error=type(error).__name__)
                    await backoff.wait()

    async def _tell_all(self) -> None:
        if not self._waiting:
            return
        async with _producer(self._brokers) as producer:
            while self._waiting:
                await _send_pin(producer, self._waiting[0])
                self._told.add(event_id(self._waiting.popleft()))

    async def _forget_all(self) -> None:
        for told in self._over.keys() & self._told:
            pinned = self._over[told]
            await asyncio.to_thread(self._files.forget, pinned)
            del self._over[told]
            self._told.discard(told)
            log.info("pin.lifted", model=pinned.key, pin_id=pinned.pin_id)


@asynccontextmanager
async def _producer(brokers: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = open_producer(brokers)
    try:
        await producer.start()
        yield producer
    finally:
        with suppress(*INFRASTRUCTURE, KafkaError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await producer.stop()


async def _send_pin(producer: AIOKafkaProducer, pinned: RoutePinned) -> None:
    """Return when Kafka has acknowledged a pin."""
    topic = RoutePinned.topic.name
    headers = cloudevents.headers(topic, event_id(pinned), _SOURCE, time=pinned.pinned_at)
    async with asyncio.timeout(_ACK_TIMEOUT_S):
        await producer.send_and_wait(
            topic,
            key=pinned.key.encode(),
            value=pinned.model_dump_json().encode(),
            headers=headers,
        )


async def _send_together(producer: AIOKafkaProducer, entries: Sequence[Entry]) -> None:
    """Return when Kafka has acknowledged predictions, sent as one batch a partition.

    A batch made here costs a fifth of the same records sent one by one, each with a future.
    """
    async with asyncio.timeout(_ACK_TIMEOUT_S):
        keys = [entry.id.encode() for entry in entries]
        homes = partitions_of(keys, len(await producer.partitions_for(_TOPIC))).tolist()
        batches: dict[int, BatchBuilder] = {}
        acks = []
        for number, (entry, key, home) in enumerate(zip(entries, keys, homes, strict=True)):
            if home not in batches:
                batches[home] = producer.create_batch()
            if not _put(batches[home], key, entry):
                acks.append(await producer.send_batch(batches[home], _TOPIC, partition=home))
                batches[home] = producer.create_batch()
                _put(batches[home], key, entry)  # an empty batch takes an entry of any size
            if number % _TURN == _TURN - 1:
                await asyncio.sleep(0)
        for home, batch in batches.items():
            acks.append(await producer.send_batch(batch, _TOPIC, partition=home))
        await asyncio.gather(*acks)


def _put(batch: BatchBuilder, key: bytes, entry: Entry) -> bool:
    """Append a prediction, unless the batch is full."""
    role = b"live" if entry.kind == Kind.PREDICTION_LIVE else b"shadow"
    headers = [
        *_OF_PREDICTIONS,
        ("ce_id", b"%b-%b" % (key, role)),
        ("ce_time", cloudevents.time_text(entry.time_us)),
    ]
    put = batch.append(timestamp=None, key=key, value=entry.payload, headers=headers)
    return put is not None


def _time(entry: Entry) -> datetime:
    return datetime.fromtimestamp(entry.time_us / 1e6, UTC)
