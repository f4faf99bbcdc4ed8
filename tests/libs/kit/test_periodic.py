"""Something called again and again: by the clock, or at once when something changed."""

import asyncio

from gyral.kit.periodic import Periodic


async def test_the_next_call_comes_at_once_when_something_changed():
    called: asyncio.Queue[None] = asyncio.Queue()
    timer = Periodic("look", lambda: called.put(None), every_s=3600)
    await timer.start()
    async with asyncio.timeout(10):
        await called.get()
        timer.soon()
        await called.get()
    assert timer.healthy() is None
    await timer.stop()


async def test_a_change_during_a_call_has_another_follow():
    calls, begun, done = 0, asyncio.Event(), asyncio.Event()

    async def call():
        nonlocal calls
        calls += 1
        begun.set()
        if calls == 1:
            await done.wait()

    timer = Periodic("look", call, every_s=3600)
    await timer.start()
    async with asyncio.timeout(10):
        await begun.wait()
        begun.clear()
        timer.soon()
        done.set()
        await begun.wait()
    assert calls == 2
    await timer.stop()
