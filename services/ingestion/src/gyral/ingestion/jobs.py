"""What runs beside requests: bringing the spool to Kafka."""

import asyncio
from contextlib import suppress

from gyral.ingestion.engine.log import LogAwayError
from gyral.ingestion.handlers.outlet import SpoolingOutlet
from gyral.ingestion.store.spool import Spool
from gyral.kit.backoff import Backoff
from gyral.kit.telemetry import get_log

log = get_log()


class Drain:
    """Brings what is spooled to Kafka in its order, also what an earlier process left."""

    def __init__(self, spool: Spool, outlet: SpoolingOutlet) -> None:
        self._spool = spool
        self._outlet = outlet
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open the spool and start draining it."""
        await self._spool.open()
        self._task = asyncio.create_task(self._run(), name="drain")

    async def stop(self) -> None:
        """Stop draining; what is left is drained by the next process."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._spool.close()

    def healthy(self) -> str | None:
        """Answer None while the draining goes on and the disk takes entries."""
        if self._task is None or self._task.done():
            return "drain: expected it to run; found it ended"
        return self._spool.writable()

    async def _run(self) -> None:
        backoff = Backoff(first_s=0.1, limit_s=2.0)
        while True:
            entries = await self._spool.next()
            if not entries:
                await self._spool.wait()
            try:
                for entry, position in entries:
                    await self._outlet.forward(entry)
                    self._spool.done(position)
                    backoff.reset()
            except LogAwayError as away:
                log.warning("spool.waits_for_kafka", error=str(away))
                await backoff.wait()
