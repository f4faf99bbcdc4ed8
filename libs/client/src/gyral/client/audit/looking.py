"""Looks again before it calls something a violation: live stores follow each other."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence

PATIENCE_S = 5.0
_PAUSE_S = 0.5


async def lasting(
    look: Callable[[], Awaitable[Mapping[str, str]]], *, patience_s: float = PATIENCE_S
) -> Sequence[str]:
    """Return the lines of what every look finds, over as long as the stores are given.

    Args:
        look: finds what is wrong now: a line each, by what tells one case from another.
        patience_s: how long one store may be behind another; nothing is waited for when a
            look finds nothing.
    """
    clock = asyncio.get_running_loop().time
    deadline = clock() + patience_s
    found = await look()
    while found and clock() < deadline:
        await asyncio.sleep(_PAUSE_S)
        again = await look()
        found = {case: again[case] for case in found if case in again}
    return list(found.values())
