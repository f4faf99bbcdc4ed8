"""Waiting in tests for something to come true, never for time to pass."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable

from gyral.kit.changes import Changes

_POLL_S = 0.02


async def until(
    condition: Callable[[], object | Awaitable[object]], *, timeout_s: float = 20.0
) -> None:
    """Return once a condition, a coroutine function or not, gives something true.

    Raises:
        TimeoutError: it did not in time.
    """

    async def holds() -> bool:
        answer = condition()
        return bool(await answer if inspect.isawaitable(answer) else answer)

    changes = Changes(poll_s=_POLL_S)
    async with asyncio.timeout(timeout_s):
        while not await changes.wait_until(holds, timeout_s):
            continue
