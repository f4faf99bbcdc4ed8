"""Work that costs as much for many as for one, done once for all of a turn of the loop."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")


class Gathering(Generic[T]):
    """Hands over together what came during one turn of the loop, in its order.

    Who comes alone does not wait for a turn: after a turn with at most one item the next item
    is handed over at once, until two come in one turn again.
    """

    def __init__(self, take: Callable[[Sequence[T]], None]) -> None:
        """Make one whose items `take` gets; what it raises, all that it was given to raise."""
        self._take = take
        self._waiting: list[tuple[T, asyncio.Future[None]]] = []
        self._direct = 0
        self._alone = True
        self._turn: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def add(self, item: T) -> None:
        """Return once the item was taken; raises what `take` does."""
        if self._loop is None:  # to ask for it is a system call each time
            self._loop = asyncio.get_running_loop()
        if self._turn is None:
            self._turn = self._loop.call_soon(self.flush)
        if self._alone:
            self._direct += 1
            self._take([item])
            return
        taken = self._loop.create_future()
        self._waiting.append((item, taken))
        await taken

    def flush(self) -> None:
        """Hand over what has come."""
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        waiting, self._waiting = self._waiting, []
        self._alone = self._direct + len(waiting) <= 1
        self._direct = 0
        if not waiting:
            return
        error: Exception | None = None
        try:
            self._take([item for item, _ in waiting])
        except Exception as raised:  # noqa: BLE001 - whoever waits raises it
            error = raised
        for _, taken in waiting:
            if taken.done():  # whoever waited was cancelled
                continue
            if error is None:
                taken.set_result(None)
            else:
                taken.set_exception(error)
