"""One sync of the disk for all who wait for one."""

import asyncio
import os
from collections.abc import Callable, Sequence
from contextlib import suppress


class Syncing:
    """Syncs the file that is written to, and those that were before it."""

    def __init__(self) -> None:
        self._running: asyncio.Task[None] | None = None
        self._full: list[int] = []

    def full(self, descriptor: int) -> None:
        """Sync a file with the next one, and close it then: nothing more is written to it."""
        self._full.append(descriptor)

    async def after_write(self, current: Callable[[], int]) -> None:
        """Return after a sync that began after this call, shared with all others who wait.

        Raises:
            OSError: it failed, or the one before it did, which had the caller's file in hand.
        """
        if self._running is not None:
            # It may have begun before the caller's write: what counts begins after it.
            await asyncio.shield(self._running)
        if self._running is None:
            self._running = asyncio.create_task(self._sync(current))
        await asyncio.shield(self._running)

    def close(self) -> None:
        """Let go of the files without syncing them."""
        for descriptor in self._full:
            with suppress(OSError):
                os.close(descriptor)
        self._full = []

    async def _sync(self, current: Callable[[], int]) -> None:
        try:
            copy = os.dup(current())
            full, self._full = self._full, []
            await asyncio.to_thread(_sync_all, [*full, copy])
        finally:
            self._running = None


def _sync_all(descriptors: Sequence[int]) -> None:
    """Sync files through descriptors of their own, and close these."""
    try:
        for descriptor in descriptors:
            os.fdatasync(descriptor)
    finally:
        for descriptor in descriptors:
            os.close(descriptor)
