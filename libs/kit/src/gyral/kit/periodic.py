"""Something called again and again for the life of a service, seen by its health."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gyral.kit.backoff import Backoff
from gyral.kit.db import is_infrastructure
from gyral.kit.telemetry import get_log

log = get_log()


class Periodic:
    """Calls something again and again; infrastructure that is away is waited for."""

    def __init__(
        self, name: str, call: Callable[[], Awaitable[None]], *, every_s: float
    ) -> None:
        self._name = name
        self._call = call
        self._every_s = every_s
        self._due = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start calling; the first call comes at once."""
        self._task = asyncio.create_task(self._run(), name=self._name)

    async def stop(self) -> None:
        """Stop calling."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def soon(self) -> None:
        """Have the next call come at once: something is known to have changed."""
        self._due.set()

    def healthy(self) -> str | None:
        """Answer None while the calling goes on."""
        if self._task is None or self._task.done():
            return f"{self._name}: expected it to run; found it ended or not started"
        return None

    async def _run(self) -> None:
        backoff = Backoff(first_s=0.2, limit_s=5.0)
        while True:
            self._due.clear()
            try:
                await self._call()
            except Exception as error:
                if not is_infrastructure(error):
                    log.critical("periodic.ended", name=self._name, exc_info=error)
                    raise
                log.warning("periodic.waits", name=self._name, error=type(error).__name__)
                await backoff.wait()
                continue
            backoff.reset()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._every_s):
                    await self._due.wait()
