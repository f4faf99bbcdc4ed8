"""Locks between the processes of this service, for work that only one may do at a time."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from gyral.kit.db import Pool


class Locks:
    """Named locks that end with the session which holds them, so with a process that dies."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[bool]:
        """Tell whether the name is ours for the block; False when another process has it."""
        async with self._pool.acquire() as conn:
            taken: bool = await conn.fetchval(
                """
                SELECT pg_try_advisory_lock(
                    hashtextextended(current_schema() || '/' || $1, 0))
                """,
                name,
            )
            try:
                yield taken
            finally:
                if taken:
                    await conn.execute(
                        """
                        SELECT pg_advisory_unlock(
                            hashtextextended(current_schema() || '/' || $1, 0))
                        """,
                        name,
                    )
