"""Health: small questions that answer None when all is well, else what is wrong."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeAlias

from gyral.kit.db import Pool, ping

Check: TypeAlias = Callable[[], str | None]


def failures(checks: Sequence[Check]) -> list[str]:
    """Ask all checks and return what is wrong."""
    return [wrong for check in checks if (wrong := check()) is not None]


class PoolProbe:
    """Asks Postgres now and then, so that a readiness answer never waits for it."""

    def __init__(self, pool: Pool, *, every_s: float = 5.0) -> None:
        self._pool = pool
        self._every_s = every_s
        self._wrong: str | None = "postgres: not asked yet"
        self._task: asyncio.Task[None] | None = None

    def ready(self) -> str | None:
        """Answer None while Postgres replies."""
        return self._wrong

    def healthy(self) -> str | None:
        """Answer None while the asking goes on; a Postgres that is away is no reason to restart."""
        return None if self._task is not None and not self._task.done() else "postgres probe: ended"

    async def start(self) -> None:
        """Start asking."""
        self._task = asyncio.create_task(self._ask(), name="postgres probe")

    async def stop(self) -> None:
        """Stop asking."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    async def _ask(self) -> None:
        while True:
            self._wrong = await ping(self._pool)
            await asyncio.sleep(self._every_s if self._wrong is None else 1.0)
