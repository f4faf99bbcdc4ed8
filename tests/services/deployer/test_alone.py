"""One deployer of a database that makes processes, and another once it has ended."""

import asyncio

import pytest

from gyral.deployer.store.alone import Alone
from gyral.kit.db import connected
from gyral.kit.health import UnstartableError
from gyral.testkit.waiting import until

pytestmark = pytest.mark.live


async def test_a_second_deployer_does_not_start_and_one_that_follows_does(postgres_dsn):
    first, second = Alone(postgres_dsn), Alone(postgres_dsn, patience_s=0.1)
    await first.start()
    with pytest.raises(UnstartableError, match="found one that runs"):
        await second.start()
    assert "expected no other deployer" in str(second.healthy())
    third = Alone(postgres_dsn)
    waiting = asyncio.create_task(third.start())
    await first.stop()
    await waiting
    assert third.healthy() is None
    for each in (second, third):
        await each.stop()


async def test_who_lost_the_lock_takes_it_again_or_dies(postgres_dsn):
    first, second = Alone(postgres_dsn, patience_s=0.1), Alone(postgres_dsn)
    await first.start()
    await cut_off(postgres_dsn)
    await until(lambda: held(postgres_dsn))
    assert first.healthy() is None
    waiting = asyncio.create_task(second.start())
    while not waiting.done():
        await cut_off(postgres_dsn)
        await asyncio.wait({waiting}, timeout=0.5)
    await until(lambda: first.healthy() is not None)
    for each in (first, second):
        await each.stop()


async def held(dsn):
    """Return the server's processes that hold a lock of the database's."""
    async with connected(dsn) as conn:
        rows = await conn.fetch(
            """
            SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid)
             WHERE locktype = 'advisory' AND granted AND usename = current_user
            """
        )
        return {row["pid"] for row in rows}


async def cut_off(dsn):
    """End the connection that holds the lock."""
    async with connected(dsn) as conn:
        for pid in await held(dsn):
            await conn.execute("SELECT pg_terminate_backend($1)", pid)
