"""A projection without Kafka: tests put into it what a topic would have said."""

from typing import TypeVar

from gyral.contracts.events import Event
from gyral.kit.projection import Projection

E = TypeVar("E", bound=Event)


class MemoryProjection(Projection[E]):
    """A projection that is always caught up."""

    def __init__(self, event_type: type[E]) -> None:
        super().__init__("nowhere:0", event_type)
        self._loaded = True

    async def put(self, event: E) -> None:
        """Make this the latest event of its key; callbacks are called."""
        await self._set(event.key, event)

    async def remove(self, key: str) -> None:
        """Forget a key, as a tombstone does; callbacks are called."""
        await self._set(key, None)

    async def start(self) -> None:
        """Do nothing: it is caught up."""

    async def stop(self) -> None:
        """Do nothing."""

    async def refresh(self, *, timeout_s: float = 10.0) -> None:
        """Do nothing: it is caught up."""

    def healthy(self) -> str | None:
        """Answer None."""
        return None
