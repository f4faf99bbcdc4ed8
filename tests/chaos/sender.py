"""An upstream that sends through the door and into Kafka, and writes down what it was told."""

import asyncio
import json
import random
from collections.abc import Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import httpx
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.structs import RecordMetadata

from tests.chaos import rows
from tests.chaos.journal import Journal, Outcome, Place, Way
from tests.chaos.parcels import Either, Message, Parcels, Request, fits_door
from tests.chaos.rows import Bad, Headers, Row

TOPIC = "data.record.submitted.v1"
WINDOW = 1000
"""Rows among which the order of sends is drawn."""
COPIES = 3
_ANSWER_S = 20.0
_AGAIN_S = 1.0
_AT_ONCE = 4
_AGAIN = frozenset({408, 425, 429})


@dataclass(slots=True)
class Sender:
    """Sends window after window until told to stop, and each send until its end is known."""

    seed: int
    stream: str
    journal: Journal
    brokers: str
    door: httpx.AsyncClient
    window_s: float
    """Shortest time a window takes."""
    bad_rows: int = 1
    """In each window; one is 0.1 %."""
    version: int = 1
    """The newest generation that rows may be written in; older ones are sent on beside it."""
    acknowledged: int = 0
    answered: int = 0
    """Requests answered 202."""
    windows: int = 0
    _parcels: Parcels = field(init=False)
    _producer: AIOKafkaProducer | None = None
    _accepted: dict[str, Row] = field(default_factory=dict)
    """Rows that Kafka has, by key; each is contradicted once at most."""
    _contradicted: set[str] = field(default_factory=set)
    _open: set[asyncio.Task[None]] = field(default_factory=set)
    _places: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_AT_ONCE))
    _opening: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        self._parcels = Parcels(self.stream)

    async def run(self, enough: asyncio.Event) -> None:
        """Send until there is enough and nothing is undecided."""
        try:
            while not enough.is_set():
                window = asyncio.create_task(self._window(self.windows))
                await asyncio.gather(window, pause(self.window_s))
                self.windows += 1
            while self._open:
                await asyncio.gather(*self._open)
        finally:
            for task in self._open:
                task.cancel()
            await self._drop()

    async def mark(self, event_time: str, partitions: int) -> None:
        """Put a marker of event time into each partition."""
        value = json.dumps({"subject": self.stream, "event_time": event_time}).encode()
        headers: Headers = (("ce_type", b"data.watermark.advanced.v1"),)
        for partition in range(partitions):
            marker = Message("marker", None, value, headers, self.stream, partition)
            self.journal.marked(await self._surely(TOPIC, marker))

    async def tell(self, topic: str, key: str, event: rows.Values) -> None:
        """Put an event of the control plane into its topic."""
        headers: Headers = (("ce_type", topic.encode()),)
        value = json.dumps(event).encode()
        await self._surely(topic, Message("event", None, value, headers, key))

    async def _surely(self, topic: str, message: Message) -> Place:
        while True:
            [at] = await self._put(topic, [message])
            if at is not None:
                return at
            await pause(_AGAIN_S)

    async def _window(self, number: int) -> None:
        rng = random.Random(f"{self.seed}/window/{number}")
        first = number * WINDOW
        drawn: list[Either] = [
            rows.good(self.seed, self.stream, first + at, rng.randint(1, self.version))
            for at in range(WINDOW)
        ]
        drawn += [self._bad(rng, number * self.bad_rows + at) for at in range(self.bad_rows)]
        for row in drawn:
            self.journal.bad(row) if isinstance(row, Bad) else self.journal.good(row)
        sends = [(row, rng.random() < 0.5) for row in drawn for _ in range(COPIES)]
        rng.shuffle(sends)
        through_door = [row for row, door in sends if door and fits_door(row)]
        straight = [row for row, door in sends if not (door and fits_door(row))]
        await asyncio.gather(
            self._straight([self._parcels.message(rng, row) for row in straight]),
            *(self._try(request) for request in self._parcels.requests(rng, through_door)),
        )

    def _bad(self, rng: random.Random, number: int) -> Bad:
        """Return a bad row: every tenth has the key of an accepted one."""
        tens, at = divmod(number, 10)
        if at == 9:
            key = rng.choice(list(self._accepted))
            self._contradicted.add(key)
            return rows.conflict(self._accepted.pop(key))
        return rows.bad(self.seed, self.stream, number - tens)

    async def _try(self, request: Request) -> None:
        """Send once; what is undecided goes on beside the windows that follow."""
        outcome = await self._asked(request)
        if outcome is Outcome.UNKNOWN:
            self._beside(self._until_decided(request))
        elif outcome is Outcome.REFUSED and len(request.rows) > 1:
            await self._one_by_one(request)

    def _beside(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _until_decided(self, request: Request) -> None:
        outcome = Outcome.UNKNOWN
        while outcome is Outcome.UNKNOWN:
            await pause(_AGAIN_S)
            outcome = await self._asked(request)
        if outcome is Outcome.REFUSED and len(request.rows) > 1:
            await self._one_by_one(request)

    async def _one_by_one(self, request: Request) -> None:
        """Find out which rows a request was refused for: the others are to be taken."""
        rng = random.Random(f"{self.seed}/{request.name}")
        for row in request.rows:
            await self._try(self._parcels.request(rng, [row], request.stream))

    async def _asked(self, request: Request) -> Outcome:
        async with self._places:
            outcome, code = await self._answer(request)
        good = [row for row in request.rows if isinstance(row, Row)]
        self.journal.sent(
            request.name,
            Way.DOOR,
            outcome,
            good=[row.key for row in good],
            bad=[row.key for row in request.rows if isinstance(row, Bad)],
            code=code,
        )
        if outcome is Outcome.OK:
            self.answered += 1
            self.acknowledged += len(request.rows)
        return outcome

    async def _answer(self, request: Request) -> tuple[Outcome, str]:
        try:
            answer = await self.door.post(
                f"/v1/streams/{request.stream}/records",
                content=request.body,
                headers={**request.headers, "idempotency-key": request.name},
            )
        except httpx.TransportError as error:
            return Outcome.UNKNOWN, type(error).__name__
        if answer.status_code == httpx.codes.ACCEPTED:
            return Outcome.OK, ""
        code = _code(answer)
        if answer.is_server_error or answer.status_code in _AGAIN or code == "in_progress":
            return Outcome.UNKNOWN, f"{answer.status_code} {code}"
        return Outcome.REFUSED, f"{answer.status_code} {code}"

    async def _straight(self, messages: Sequence[Message]) -> None:
        """Send in order, and again what was not acknowledged, until all is."""
        left = list(messages)
        while left:
            ends = await self._put(TOPIC, left)
            for message, at in zip(left, ends, strict=True):
                self._told(message, at)
            left = [message for message, at in zip(left, ends, strict=True) if at is None]
            if left:
                await pause(_AGAIN_S)

    def _told(self, message: Message, at: Place | None) -> None:
        """Write down how a row went straight into Kafka."""
        row = message.row
        if row is None:
            return
        bad = isinstance(row, Bad)
        self.journal.sent(
            message.name,
            Way.KAFKA,
            Outcome.UNKNOWN if at is None else Outcome.OK,
            good=[] if bad else [row.key],
            bad=[row.key] if bad else [],
            at=at,
            value=message.value,
        )
        self.acknowledged += at is not None
        known = row.key in self._contradicted or len(self._accepted) >= WINDOW
        if at is not None and isinstance(row, Row) and not known:
            self._accepted[row.key] = row

    async def _put(self, topic: str, messages: Sequence[Message]) -> list[Place | None]:
        """Return where Kafka says each lies, or None where it does not say in time."""
        sent: list[asyncio.Future[RecordMetadata]] = []
        producer = None
        try:
            async with asyncio.timeout(_ANSWER_S):
                producer = await self._opened()
                for one in messages:
                    # What was sent before an error must be known: no comprehension.
                    sent.append(await producer.send(topic, one.value, **one.placed()))  # noqa: PERF401
                await asyncio.wait(sent)
        except (KafkaError, OSError, TimeoutError):
            pass
        found = [_place(future) for future in sent]
        if (len(found) < len(messages) or None in found) and producer is self._producer:
            await self._drop()
        return found + [None] * (len(messages) - len(found))

    async def _opened(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._producer is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self.brokers,
                    acks="all",
                    enable_idempotence=True,  # or its own retries would send twice unseen
                    linger_ms=5,
                    request_timeout_ms=10_000,
                )
                try:
                    await producer.start()
                except BaseException:
                    await producer.stop()
                    raise
                self._producer = producer
            return self._producer

    async def _drop(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError, OSError, TimeoutError):
                async with asyncio.timeout(2):
                    await producer.stop()


async def pause(seconds: float) -> None:
    """Let others work: an upstream has its own pace."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().create_future()


def _code(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["error"]["code"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:80]


def _place(sent: "asyncio.Future[RecordMetadata]") -> Place | None:
    if not sent.done():
        sent.cancel()
        return None
    if sent.cancelled() or sent.exception() is not None:
        return None
    found = sent.result()
    return found.partition, found.offset
