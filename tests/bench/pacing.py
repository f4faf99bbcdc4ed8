"""Open-loop load and its watchers keep to a clock, whatever they have to wait for beside it."""

import asyncio


async def reach(moment_s: float) -> None:
    """Return at this moment of the running loop's clock, at once when it has passed."""
    loop = asyncio.get_running_loop()
    due = loop.create_future()
    timer = loop.call_at(moment_s, due.set_result, None)
    try:
        await due
    finally:
        timer.cancel()


def now_s() -> float:
    """Return the running loop's clock."""
    return asyncio.get_running_loop().time()
