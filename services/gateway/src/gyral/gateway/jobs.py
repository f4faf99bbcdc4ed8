"""To Kafka until acknowledged: what the journal holds, in its order, and pins."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from gyral.contracts.data import WatermarkAdvanced
from gyral.contracts.deployment import RoutePinned
from gyral.contracts.inference import PredictionLogged
from gyral.gateway.store.kinds import Kind
from gyral.gateway.store.pins import PinFiles
from gyral.kit import cloudevents
from gyral.kit.backoff import Backoff
from gyral.kit.db import INFRASTRUCTURE
from gyral.kit.journal import Journal
from gyral.kit.producer import open_producer
from gyral.kit.segments import Entry, Position
from gyral.kit.telemetry import get_log

_TOPIC = PredictionLogged.topic.name
_SOURCE = "gyral/gateway"
_LINGER_MS = 5
_ACK_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 5.0
log = get_log()


@dataclass(frozen=True, slots=True)
class _Outgoing:
    key: bytes
    value: bytes
    headers: cloudevents.Headers
    partition: int | None = None


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

    async def _send_predictions(
        self, producer: AIOKafkaProducer, entries: Sequence[tuple[Entry, Position]]
    ) -> None:
        if entries:
            await _send_all(producer, [_prediction(entry) for entry, _ in entries])
            self._acked(entries[-1][1])

    async def _send_marker(self, producer: AIOKafkaProducer, entry: Entry) -> None:
        """Put the marker into every partition: what was answered before it lies before it."""
        partitions = await producer.partitions_for(_TOPIC)
        await _send_all(producer, [_marker(entry, number) for number in sorted(partitions)])

    def _acked(self, position: Position) -> None:
        self._at = position
        self._journal.ack(position)


class Announcer:
    """Tells the deployer of pins until Kafka has them; keeps each on disk until it was adopted.

    A pin is told again by every process that finds its file: the deployer knows it by its id.
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
        self._over[pinned.pin_id] = pinned
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
                await _send_all(producer, [_pin(self._waiting[0])], RoutePinned.topic.name)
                self._told.add(self._waiting.popleft().pin_id)

    async def _forget_all(self) -> None:
        for pin_id in self._over.keys() & self._told:
            await asyncio.to_thread(self._files.forget, self._over.pop(pin_id))
            self._told.discard(pin_id)
            log.info("pin.lifted", pin_id=pin_id)


@asynccontextmanager
async def _producer(brokers: str) -> AsyncIterator[AIOKafkaProducer]:
    producer = open_producer(brokers, linger_ms=_LINGER_MS)
    try:
        await producer.start()
        yield producer
    finally:
        with suppress(*INFRASTRUCTURE, KafkaError):
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await producer.stop()


async def _send_all(
    producer: AIOKafkaProducer, records: Sequence[_Outgoing], topic: str = _TOPIC
) -> None:
    """Return when Kafka has acknowledged all of them."""
    async with asyncio.timeout(_ACK_TIMEOUT_S):
        acks = [
            await producer.send(
                topic,
                key=record.key,
                value=record.value,
                headers=record.headers,
                partition=record.partition,
            )
            for record in records
        ]
        await asyncio.gather(*acks)


def _pin(pinned: RoutePinned) -> _Outgoing:
    headers = cloudevents.headers(
        RoutePinned.topic.name, pinned.pin_id, _SOURCE, time=pinned.pinned_at
    )
    return _Outgoing(pinned.key.encode(), pinned.model_dump_json().encode(), headers)


def _prediction(entry: Entry) -> _Outgoing:
    role = "live" if entry.kind == Kind.PREDICTION_LIVE else "shadow"
    headers = _headers(_TOPIC, f"{entry.id}-{role}", entry)
    return _Outgoing(entry.id.encode(), entry.payload, headers)


def _marker(entry: Entry, partition: int) -> _Outgoing:
    headers = _headers(WatermarkAdvanced.topic.name, f"{entry.id}-{partition}", entry)
    return _Outgoing(entry.id.encode(), entry.payload, headers, partition)


def _headers(type_: str, id_: str, entry: Entry) -> cloudevents.Headers:
    time = datetime.fromtimestamp(entry.time_us / 1e6, UTC)
    return cloudevents.headers(type_, id_, _SOURCE, time=time)
