"""Copies of answered requests, asked of versions whose answers nobody waits for."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from gyral.kit.journal import JournalBrokenError, JournalFullError
from gyral.kit.telemetry import get_log

log = get_log()


@dataclass(slots=True)
class Copy:
    """One copy: begun when the caller's answer is on its way, never before."""

    go: asyncio.Event = field(default_factory=asyncio.Event)

    def begin(self) -> None:
        """Ask the shadow version now."""
        self.go.set()


class Shadows:
    """The copies in hand, counted and bounded by model."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._tasks: dict[str, set[asyncio.Task[None]]] = {}

    def reserve(self, model: str, ask: Callable[[], Awaitable[None]]) -> Copy | None:
        """Return a copy, outstanding from now on, or None when there are too many."""
        tasks = self._tasks.setdefault(model, set())
        if len(tasks) >= self._limit:
            log.warning("shadow.not_copied", model=model, outstanding=len(tasks))
            return None
        copy = Copy()
        task = asyncio.create_task(_run(copy, ask))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return copy

    async def settled(self, model: str) -> None:
        """Return when every copy that is outstanding now is on the journal."""
        tasks = set(self._tasks.get(model, ()))
        if tasks:
            await asyncio.wait(tasks)


async def _run(copy: Copy, ask: Callable[[], Awaitable[None]]) -> None:
    await copy.go.wait()
    try:
        await ask()
    except (JournalFullError, JournalBrokenError) as error:
        log.error("shadow.not_logged", reason=str(error))  # noqa: TRY400 - no stack
