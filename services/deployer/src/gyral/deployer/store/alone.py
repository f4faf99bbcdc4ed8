"""One deployer of a database that makes processes: two would end each other's."""

import asyncio
import time
from contextlib import suppress

from gyral.kit.backoff import Backoff
from gyral.kit.db import INFRASTRUCTURE, Connection, connected
from gyral.kit.health import UnstartableError
from gyral.kit.telemetry import get_log

_PATIENCE_S = 30.0
"""How long a predecessor may take to end."""
_OTHER = (
    "DEPLOYER_BACKEND: expected no other deployer of this database that is process; found one"
    " that runs. Stop it, or give each a DATABASE of its own"
)
log = get_log()


class Alone:
    """Holds a lock of the database's for as long as it runs; lost, it is taken again."""

    def __init__(self, dsn: str, *, patience_s: float = _PATIENCE_S) -> None:
        self._dsn = dsn
        self._patience_s = patience_s
        self._mine = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Return once the lock is held.

        Raises:
            UnstartableError: another deployer holds it when the patience is over.
        """
        self._task = asyncio.create_task(self._run(), name="alone")
        mine = asyncio.create_task(self._mine.wait())
        try:
            await asyncio.wait({self._task, mine}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            mine.cancel()
        if self._task.done():
            self._task.result()

    async def stop(self) -> None:
        """Give the lock up."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, UnstartableError):
                await self._task

    def healthy(self) -> str | None:
        """Answer None until another deployer has the lock."""
        if self._task is None or not self._task.done() or self._task.cancelled():
            return None
        return str(self._task.exception())

    async def _run(self) -> None:
        backoff = Backoff(first_s=0.05, limit_s=2.0)
        patience_until: float | None = None
        while True:
            try:
                async with connected(self._dsn) as conn:
                    if await self._take(conn):
                        patience_until = None
                        backoff.reset()
                        await self._lost(conn)
                    elif patience_until is None:
                        patience_until = time.monotonic() + self._patience_s
                    elif time.monotonic() > patience_until:
                        raise UnstartableError(_OTHER)
            except INFRASTRUCTURE as error:
                log.warning("alone.waits_for_postgres", error=type(error).__name__)
            await backoff.wait()

    @staticmethod
    async def _take(conn: Connection) -> bool:
        taken: bool = await conn.fetchval(
            """
            SELECT pg_try_advisory_lock(
                hashtextextended(current_schema() || '/deployer/processes', 0))
            """
        )
        return taken

    async def _lost(self, conn: Connection) -> None:
        """Return once the connection, and the lock with it, is gone."""
        lost = asyncio.Event()
        conn.add_termination_listener(lambda _: lost.set())
        self._mine.set()
        await lost.wait()
