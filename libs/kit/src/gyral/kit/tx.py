"""One transaction of a service: state, handled events and published ones commit together."""

import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypeAlias, TypeVar

from gyral.contracts.events import Delivery, Event
from gyral.kit import cloudevents, offsets, outbox
from gyral.kit.db import Connection, Pool
from gyral.kit.telemetry import current_traceparent

MAX_VALUE_BYTES = 900_000
_NAMESPACE = uuid.UUID("6e6c0d5b-9f0b-5e62-9a3c-0d8d2f0f7b1e")


class PermanentError(Exception):
    """No retry can help: the event goes to the dead letters at once, with this message."""


class Tx:
    """A database transaction that can claim an event once and publish others when it commits.

    Services subclass it in `store`, adding queries on `conn`; they keep its `__init__`.
    """

    def __init__(self, conn: Connection, *, service: str) -> None:
        self.conn = conn
        self.service = service
        self._cause: Delivery | None = None
        self._seed: str | None = None
        self._outgoing: list[outbox.Message] = []

    async def claim(self, event: Event) -> bool:
        """Return True for the one transaction that may handle this event, now its cause.

        False: it was handled before; return without doing anything.
        """
        self.because(event.delivery)
        return await claim(
            self.conn, self.service, type(event).topic.name, event.delivery.event_id
        )

    def because(self, cause: Delivery | None, *, step: str = "") -> None:
        """Name what the coming events follow from; the same cause and step give the same ids.

        Args:
            cause: delivery of the event behind it, from `claim`, a `Job` or a remembered one.
            step: tells several transactions with one cause apart, as the epochs of a run.
        """
        self._cause = cause
        self._seed = None if cause is None else f"{cause.event_id}/{step}"

    async def publish(self, event: Event) -> str:
        """Put an event into the outbox of this transaction and return its id."""
        delivery = self._delivery_of(event, position=len(self._outgoing))
        encoded = cloudevents.encode(event, delivery, source=f"/{self.service}")
        if len(encoded.value) > MAX_VALUE_BYTES:
            raise PermanentError(
                f"{encoded.topic}: expected at most {MAX_VALUE_BYTES} bytes;"
                f" found {len(encoded.value)} for key {event.key[:200]!r}"
            )
        self._outgoing.append(
            outbox.Message(
                delivery.event_id, encoded.topic, encoded.key, encoded.headers, encoded.value
            )
        )
        return delivery.event_id

    async def forward(self, message: outbox.Message) -> None:
        """Put bytes of others, as they are, into the outbox of this transaction."""
        self._outgoing.append(message)

    async def advance(self, sink: str, moves: Sequence[offsets.Move]) -> None:
        """Move a sink's offsets with the rest of this transaction.

        Raises:
            Fenced: an offset is not what the caller believed.
        """
        await offsets.advance(self.conn, sink, moves)

    async def flush(self) -> None:
        """Write the outbox; `begin` calls it last, just before the commit."""
        await outbox.store(self.conn, self._outgoing)
        self._outgoing = []

    def _delivery_of(self, event: Event, *, position: int) -> Delivery:
        seed = self._seed or str(uuid.uuid4())
        event_id = str(
            uuid.uuid5(_NAMESPACE, f"{self.service}/{type(event).topic.name}/{seed}/{position}")
        )
        cause = self._cause
        return Delivery(
            event_id=event_id,
            correlation_id=cause.correlation_id if cause else event_id,
            causation_id=cause.event_id if cause else None,
            traceparent=current_traceparent() or (cause.traceparent if cause else None),
            time=datetime.now(UTC),
        )


T = TypeVar("T", bound=Tx)
Begin: TypeAlias = Callable[[], AbstractAsyncContextManager[T]]
"""Opens a transaction, `async with begin() as tx`, that commits unless the block raises."""


def begin(pool: Pool, tx_type: type[T], *, service: str) -> Begin[T]:
    """Return the way to open this service's transactions."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[T]:
        async with pool.acquire() as conn, conn.transaction():
            tx = tx_type(conn, service=service)
            yield tx
            await tx.flush()

    return opened


async def claim(
    conn: Connection, service: str, topic: str, event_id: str, *, parked: bool = False
) -> bool:
    """Write the inbox row; False when it is there already.

    A parked event's row says so: it can be given up, for the event to be handled after all.
    """
    claimed: bool | None = await conn.fetchval(
        """
        INSERT INTO inbox (consumer, event_id, parked)
        VALUES ($1, $2, $3)
            ON CONFLICT DO NOTHING
        RETURNING true
        """,
        f"{service}/{topic}",
        event_id,
        parked,
    )
    return bool(claimed)


def following(delivery: Delivery, traceparent: str | None) -> Delivery:
    """Return a delivery to remember for later work, continuing the given trace."""
    return replace(delivery, traceparent=traceparent or delivery.traceparent)


CLAIMS_KEPT_DAYS = 45
"""Longer than any topic keeps its events, so that whatever may come again is known.

Kafka drops whole segments: an event may outlive its topic's retention by what one segment
spans, seven days unless the broker is told otherwise.
"""


async def forget_claims(pool: Pool, *, older_than_days: int = CLAIMS_KEPT_DAYS) -> None:
    """Drop inbox rows of events that no topic holds any more: the inbox stays bounded."""
    await pool.execute(
        "DELETE FROM inbox WHERE claimed_at < now() - make_interval(days => $1)",
        older_than_days,
    )
