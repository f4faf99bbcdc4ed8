"""A service's transactions in memory, so that handlers are tested without Postgres."""

import copy
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar, cast

from gyral.contracts.events import Event
from gyral.kit import outbox
from gyral.kit.db import Connection
from gyral.kit.offsets import Fenced, Move
from gyral.kit.tx import Begin, Tx

E = TypeVar("E", bound=Event)
T = TypeVar("T", bound="MemoryTx")


class MemoryTx(Tx):
    """Claims and publishes as a real transaction does; one object is the whole database.

    A service's fake inherits from this first and from its own Tx second, and overrides the
    queries: `class MemoryTrainerTx(MemoryTx, TrainerTx)`. Its state lives in attributes, set
    after `super().__init__()`; what a failed transaction changed in them is taken back.
    """

    def __init__(self, *, service: str = "test") -> None:
        super().__init__(cast(Connection, None), service=service)
        self.published: list[Event] = []
        """What committed transactions published, oldest first."""
        self.forwarded: list[outbox.Message] = []
        self._inbox: set[tuple[str, str]] = set()
        self._offsets: dict[tuple[str, str, int], int] = {}
        self._position = 0

    async def claim(self, event: Event) -> bool:
        """Return True for the one transaction that may handle this event."""
        self.because(event.delivery)
        name = (type(event).topic.name, event.delivery.event_id)
        if name in self._inbox:
            return False
        self._inbox.add(name)
        return True

    async def publish(self, event: Event) -> str:
        """Keep an event, with the delivery its reader would see."""
        delivery = self._delivery_of(event, position=self._position)
        self._position += 1
        if all(known.delivery.event_id != delivery.event_id for known in self.published):
            self.published.append(event.delivered(delivery))
        return delivery.event_id

    async def forward(self, message: outbox.Message) -> None:
        """Keep bytes of others."""
        self.forwarded.append(message)

    async def advance(self, sink: str, moves: Sequence[Move]) -> None:
        """Move a sink's offsets.

        Raises:
            Fenced: an offset is not what the caller believed.
        """
        for topic, partition, expected, upcoming in moves:
            place = (sink, topic, partition)
            if self._offsets.get(place) != expected:
                raise Fenced(f"{sink}: {topic}/{partition}: expected to continue at {expected}")
            self._offsets[place] = upcoming

    async def flush(self) -> None:
        """Forget the cause: the next transaction has its own."""
        self.because(None)
        self._position = 0

    def published_of(self, event_type: type[E]) -> list[E]:
        """Return the published events of one type, oldest first."""
        return [event for event in self.published if isinstance(event, event_type)]


def memory_begin(tx: T) -> Begin[T]:
    """Return the way to open transactions on one state; an error takes back its changes."""

    @asynccontextmanager
    async def opened() -> AsyncIterator[T]:
        saved = {
            name: copy.deepcopy(value) for name, value in vars(tx).items() if name != "conn"
        }
        try:
            yield tx
            await tx.flush()
        except BaseException:
            vars(tx).update(saved)
            raise

    return opened
