"""A sink's store: the fake and the real one pass one suite."""

from typing import cast

import pytest

from gyral.kit import offsets
from gyral.kit.db import Pool
from gyral.kit.tx import begin
from gyral.testkit.sinks import MemorySink, SinkTx
from gyral.testkit.suites import SinkSuite


class InMemory:
    """The fake, looked at."""

    def __init__(self):
        self.sink = MemorySink()
        self.begin = self.sink.begin

    async def stored(self):
        return await offsets.stored(cast("Pool", self.sink), "s", "t", 0)

    async def output(self):
        return self.sink.output

    async def waits(self):
        return any(lock._waiters for lock in self.sink.locks.values())  # noqa: SLF001


class InPostgres:
    """The real one, looked at."""

    def __init__(self, pool):
        self.pool = pool
        self.begin = begin(pool, SinkTx, service="kit")

    async def stored(self):
        return await offsets.stored(self.pool, "s", "t", 0)

    async def output(self):
        return [row["value"] for row in await self.pool.fetch("SELECT value FROM output")]

    async def waits(self):
        return await self.pool.fetchval(
            """
            SELECT count(*) FROM pg_stat_activity
             WHERE usename = current_user AND wait_event_type = 'Lock'
            """
        )


class TestMemorySink(SinkSuite):
    @pytest.fixture
    def store(self):
        return InMemory()


class TestPostgresSink(SinkSuite):
    pytestmark = pytest.mark.live

    @pytest.fixture
    async def store(self, pool):
        await pool.execute("CREATE TABLE output (value text)")
        return InPostgres(pool)
