"""The control plane's way in: events reach handlers in their keys' order, each effect once."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar, cast

from aiokafka import ConsumerRecord
from faststream import Context
from faststream.kafka import KafkaBroker, KafkaMessage
from faststream.kafka.subscriber.usecase import BatchSubscriber
from faststream.middlewares import AckPolicy

from gyral.contracts.events import Event
from gyral.kit.backoff import Backoff
from gyral.kit.cloudevents import Record
from gyral.kit.db import Pool, is_infrastructure
from gyral.kit.reactions import LineStopped, Reaction, Reactor
from gyral.kit.telemetry import get_log

E = TypeVar("E", bound=Event)
_MAX_POLL_S = 600
log = get_log()


class Bus:
    """Consumes a service's control topics as one group: the service's name."""

    def __init__(
        self,
        brokers: str,
        *,
        service: str,
        pool: Pool,
        instance_id: str | None = None,
        max_records: int = 200,
        stuck_after_s: float = 180.0,
        reactor: Reactor | None = None,
    ) -> None:
        self._service = service
        self._instance_id = instance_id
        self._max_records = max_records
        self._stuck_after_s = stuck_after_s
        self._reactor = reactor or Reactor(service=service, pool=pool)
        self._broker = KafkaBroker(brokers, logger=None)
        self._reactions: dict[str, Reaction[Event]] = {}
        self._subscriber: BatchSubscriber | None = None
        self._started = False

    def on(self, event_type: type[E], handler: Callable[[E], Awaitable[None]]) -> None:
        """Have a handler called for each event of a type; it claims the event itself.

        Raises:
            ValueError: the type has a handler already; its inbox row could not serve two.
        """
        name = event_type.topic.name
        if name in self._reactions:
            raise ValueError(f"{name}: expected one handler in {self._service}; found a second")
        self._reactions[name] = cast("Reaction[Event]", Reaction(event_type, handler))

    async def start(self) -> None:
        """Join the group and start handling."""
        if self._reactions:
            self._subscriber = self._subscribe()
            await self._join()
        self._started = True

    async def stop(self) -> None:
        """Finish the batch in hand and leave."""
        await self._broker.stop()

    def healthy(self) -> str | None:  # noqa: PLR0911 - one way to be well, many to be ill
        """Answer None while events are consumed; FastStream itself misses a dead loop."""
        if self._reactor.stopped:
            return f"bus: the line is stopped: {self._reactor.stopped}"
        if not self._started:
            return "bus: expected it to run; found it not started"
        subscriber = self._subscriber
        if subscriber is None:
            return None
        loops = subscriber.tasks
        if not subscriber.running or not loops or any(task.done() for task in loops):
            return "bus: a consumer loop has ended"
        consumer = subscriber.consumer
        if consumer is None:
            return "bus: the consumer is gone"
        idle_s: float = consumer._subscription.fetcher_idle_time  # noqa: SLF001 - else unknown
        if idle_s > self._stuck_after_s:
            limit_s = self._stuck_after_s
            return f"bus: expected a poll within {limit_s:g} s; found none for {idle_s:.0f} s"
        return None

    async def _join(self) -> None:
        backoff = Backoff(first_s=0.2, limit_s=5.0)
        while True:
            try:
                await self._broker.start()
            except Exception as error:
                if not is_infrastructure(error):
                    raise
                log.warning("bus.waits", error=type(error).__name__)
                await self._broker.stop()
                await backoff.wait()
            else:
                return

    def _subscribe(self) -> BatchSubscriber:
        subscriber = self._broker.subscriber(
            *self._reactions,
            batch=True,
            group_id=self._service,
            group_instance_id=self._instance_id,
            max_records=self._max_records,
            batch_timeout_ms=100,
            fetch_max_wait_ms=100,
            auto_offset_reset="earliest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=2_000,
            max_poll_interval_ms=_MAX_POLL_S * 1000,
            # The other policies commit past a record whose handling failed.
            ack_policy=AckPolicy.NACK_ON_ERROR,
            parser=_tolerant_parser,
            decoder=_raw_decoder,
        )
        subscriber(self._on_batch)
        return subscriber

    async def _on_batch(
        self, records: Sequence[Record] = Context("message.raw_message")
    ) -> None:
        chains: dict[tuple[str, int, bytes | None], list[Record]] = {}
        for record in records:
            chains.setdefault((record.topic, record.partition, record.key), []).append(record)
        outcomes = await asyncio.gather(
            *(self._in_order(chain) for chain in chains.values()), return_exceptions=True
        )
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                await self._hand_back(outcome)

    async def _in_order(self, chain: Sequence[Record]) -> None:
        for record in chain:
            await self._reactor.react(self._reactions[record.topic], record)

    async def _hand_back(self, error: BaseException) -> None:
        """Let FastStream seek back to the batch's start; what was handled is in the inbox."""
        if isinstance(error, LineStopped):
            log.error("bus.line_stopped", reason=str(error))
            await asyncio.sleep(1.0)
        raise error


async def _tolerant_parser(
    message: tuple[ConsumerRecord, ...],
    original: Callable[[tuple[ConsumerRecord, ...]], Awaitable[KafkaMessage]],
) -> KafkaMessage:
    """Parse with text headers only: one null or binary header would cost the whole batch."""
    parsed = await original(
        tuple(replace(record, headers=_texts(record)) for record in message)
    )
    parsed.raw_message = message
    return parsed


def _texts(record: Record) -> tuple[tuple[str, bytes], ...]:
    return tuple(
        (name, (value or b"").decode("utf-8", "replace").encode())
        for name, value in record.headers
    )


async def _raw_decoder(message: KafkaMessage) -> object:
    return message.raw_message
