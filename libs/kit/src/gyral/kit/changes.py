"""Waiting in the process for a state to come true: the long poll behind `wait_s`."""

import asyncio
from collections.abc import Awaitable, Callable

MAX_WAIT_S = 20.0
"""Longest wait a caller may ask for."""


class Changes:
    """Wakes whoever waits, whenever something changed; each waiter looks for itself.

    Call `notify` after the commit, in the process that made the change. Waiters also look again
    every `poll_s`, so a change made by another process is seen too, only later.
    """

    def __init__(self, *, poll_s: float = 0.5) -> None:
        self._poll_s = poll_s
        self._event = asyncio.Event()

    def notify(self) -> None:
        """Wake all waiters."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait_until(
        self, predicate: Callable[[], Awaitable[bool] | bool], wait_s: float
    ) -> bool:
        """Return True once the predicate holds, False when the time is over first."""
        deadline = asyncio.get_running_loop().time() + min(max(wait_s, 0.0), MAX_WAIT_S)
        while True:
            event = self._event
            answer = predicate()
            if answer if isinstance(answer, bool) else await answer:
                return True
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                return False
            await self._changed(event, min(left, self._poll_s))

    async def _changed(self, event: asyncio.Event, wait_s: float) -> None:
        try:
            async with asyncio.timeout(wait_s):
                await event.wait()
        except TimeoutError:
            return
