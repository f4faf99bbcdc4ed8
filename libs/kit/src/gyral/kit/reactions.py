"""What happens to one delivered event: handled once, waited for, retried, or parked."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from opentelemetry.trace import SpanKind

from gyral.contracts.events import Event, Topic
from gyral.kit import cloudevents
from gyral.kit.backoff import Backoff
from gyral.kit.cloudevents import MalformedEvent
from gyral.kit.db import Pool, is_infrastructure
from gyral.kit.deadletters import DeadLetter, DeadLetterReason, is_for, told
from gyral.kit.letterbox import LetterTx
from gyral.kit.telemetry import get_log, get_meter, span
from gyral.kit.tx import PermanentError, begin, claim

E = TypeVar("E", bound=Event)
T = TypeVar("T")
log = get_log()


class LineStopped(RuntimeError):  # noqa: N818 - a state, not a fault
    """Too many events failed in a row: the fault is the service's, so no more are parked."""


@dataclass(frozen=True, slots=True)
class Reaction(Generic[E]):
    """An event type and the handler it has in this service."""

    event_type: type[E]
    handler: Callable[[E], Awaitable[None]]

    @property
    def topic(self) -> Topic:
        """Where the events come from."""
        return self.event_type.topic

    async def run(self, record: cloudevents.Record) -> None:
        """Hand one record to the handler, in a span that continues the event's trace."""
        event = cloudevents.parse(record, self.event_type)
        with span(
            f"{self.topic.name} process",
            parent=event.delivery.traceparent,
            kind=SpanKind.CONSUMER,
            messaging__system="kafka",
            messaging__destination__name=self.topic.name,
            messaging__message__id=event.delivery.event_id,
            gyral__key=event.key[:200],
            gyral__correlation_id=event.delivery.correlation_id,
        ):
            await self.handler(event)


@dataclass
class Reactor:
    """Brings every event to an end: handled or parked; only infrastructure may delay it."""

    service: str
    pool: Pool
    retries: int = 5
    patience_s: float = 60.0
    """Longest wait for infrastructure within one poll; then the batch is polled again."""
    breaker: int = 10
    """Failed events in a row that stop the line, over all lives of the service's processes."""
    first_backoff_s: float = 0.1
    _one_by_one: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    stopped: str | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        meter = get_meter()
        self._handled = meter.create_counter(
            "gyral_events_handled", description="Events handled"
        )
        self._parked = meter.create_counter(
            "gyral_events_parked", description="Events sent to dead letters"
        )
        self._retried = meter.create_counter(
            "gyral_events_retried", description="Handler runs repeated"
        )

    async def react(self, reaction: Reaction[E], record: cloudevents.Record) -> None:
        """Handle one record to its end.

        Raises:
            LineStopped: the breaker is open.
            Exception: infrastructure was away for `patience_s`; deliver the record again.
        """
        if self.stopped:
            raise LineStopped(self.stopped)
        if not is_for(record, self.service):
            log.info("event.passed_by", topic=record.topic, offset=record.offset)
            return None
        attempts = 0
        waited_s = 0.0
        backoff = Backoff(first_s=self.first_backoff_s)
        while True:
            try:
                await reaction.run(record)
            except (PermanentError, MalformedEvent) as error:
                reason = (
                    DeadLetterReason.MALFORMED
                    if isinstance(error, MalformedEvent)
                    else DeadLetterReason.PERMANENT
                )
                return await self._park(reaction, record, reason, error, attempts + 1)
            except Exception as error:
                if is_infrastructure(error):
                    log.warning(
                        "event.waits",
                        topic=record.topic,
                        offset=record.offset,
                        error=type(error).__name__,
                    )
                    if waited_s > self.patience_s:
                        raise
                else:
                    attempts += 1
                    log.exception(
                        "event.failed",
                        topic=record.topic,
                        offset=record.offset,
                        attempt=attempts,
                    )
                    if attempts > self.retries:
                        return await self._give_up(reaction, record, error, attempts)
            else:
                self._handled.add(1, {"topic": record.topic})
                return None
            self._retried.add(1, {"topic": record.topic})
            waited_s += await backoff.wait()

    async def _give_up(
        self, reaction: Reaction[E], record: cloudevents.Record, error: Exception, attempts: int
    ) -> None:
        """Park a record that fails by a bug, unless too many before it did."""
        async with self._one_by_one:
            if self.stopped:
                raise LineStopped(self.stopped)
            failed = 1 + await self._once_postgres_is_there(LetterTx.failed_in_a_row)
            if failed >= self.breaker:
                self.stopped = (
                    f"{failed} events failed in a row, the last at"
                    f" {cloudevents.place(record)}: {type(error).__name__}"
                )
                raise LineStopped(self.stopped) from error
            await self._park(reaction, record, DeadLetterReason.BUG, error, attempts)

    async def _park(
        self,
        reaction: Reaction[E],
        record: cloudevents.Record,
        reason: DeadLetterReason,
        error: Exception,
        attempts: int,
    ) -> None:
        """Park a record atomically with its inbox row: once, however often delivered.

        Whatever is claimed already was handled, or parked before this copy of it came.
        """
        if not reaction.topic.dead_letters:
            self.stopped = (
                f"{cloudevents.place(record)}: {error}; its topic has no dead letters"
            )
            raise LineStopped(self.stopped) from error
        letter = DeadLetter(record, self.service, reason, told(error), attempts)
        event_id = cloudevents.identity(record)

        async def parked(tx: LetterTx) -> bool:
            topic = reaction.topic.name
            if not await claim(tx.conn, self.service, topic, event_id, parked=True):
                return False
            await tx.keep(letter, event_id)
            await tx.forward(letter.message(reaction.topic))
            return True

        if await self._once_postgres_is_there(parked):
            self._parked.add(1, {"topic": record.topic, "reason": reason.value})
        log.error("event.parked", topic=record.topic, offset=record.offset, reason=reason.value)

    async def _once_postgres_is_there(self, work: Callable[[LetterTx], Awaitable[T]]) -> T:
        """Do work in a transaction; nothing else can be done until it is committed."""
        backoff = Backoff(first_s=self.first_backoff_s)
        while True:
            try:
                async with begin(self.pool, LetterTx, service=self.service)() as tx:
                    done = await work(tx)
            except Exception as away:
                if not is_infrastructure(away):
                    raise
                await backoff.wait()
            else:
                return done
