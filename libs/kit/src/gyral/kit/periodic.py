"""Background work of a service beside its events: loops with a name, seen by health."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gyral.kit.backoff import Backoff
from gyral.kit.db import is_infrastructure
from gyral.kit.telemetry import get_log

log = get_log()


class Background:
    """Runs a coroutine function for the life of the service; its end, in whatever way, ends the process."""

    def __init__(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        self.name = name
        self._run = run
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it."""
        self._task = asyncio.create_task(self._body(), name=self.name)

    async def stop(self) -> None:
        """Cancel it."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._task
            self._task = None

    def healthy(self) -> str | None:
        """Answer None while it runs."""
        return None if self._task is not None and not self._task.done() else f"task {self.name}: ended"

    async def _body(self) -> None:
        try:
            await self._run()
        except Exception as error:
            log.critical("task.ended", task=self.name, exc_info=error)
            raise


class Periodic(Background):
    """Runs a coroutine function again and again, `every_s` after each end; waits when infrastructure is away."""

    def __init__(self, name: str, run: Callable[[], Awaitable[None]], *, every_s: float) -> None:
        super().__init__(name, self._repeat)
        self._once = run
        self._every_s = every_s
        self._kick = asyncio.Event()

    def kick(self) -> None:
        """Run now rather than at the end of the interval."""
        self._kick.set()

    async def _repeat(self) -> None:
        backoff = Backoff(first_s=0.2, limit_s=10.0)
        while True:
            self._kick.clear()
            try:
                await self._once()
            except Exception as error:
                if not is_infrastructure(error):
                    raise
                log.warning("task.waits", task=self.name, error=type(error).__name__)
                await backoff.wait()
                continue
            backoff.reset()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._kick.wait()
