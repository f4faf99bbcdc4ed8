"""The runtimes and versions that the current routes name, each with its queue."""

import asyncio
import random
from contextlib import suppress

from gyral.contracts.deployment import RouteChanged, Share
from gyral.gateway.engine.batcher import Batcher
from gyral.gateway.engine.link import Link


class Fleet:
    """Queues that follow the routes; live and shadow requests have connections of their own.

    Queues that no route names any more are let go once they are empty.
    """

    def __init__(self, rng: random.Random, *, hang_s: float) -> None:
        self._rng = rng
        self._hang_s = hang_s
        self._links: dict[tuple[str, bool], Link] = {}
        self._batchers: dict[tuple[str, str, str, bool], Batcher] = {}
        self._tasks: list[asyncio.Task[None]] = []

    def batcher(self, route: RouteChanged, share: Share, *, shadow: bool) -> Batcher:
        """Return the queue of a version, made at first use."""
        key = (route.runtime, share.slot, share.sha256, shadow)
        batcher = self._batchers.get(key)
        if batcher is None or batcher.share.inputs != share.inputs:
            batcher = Batcher(self._link(route.runtime, shadow=shadow), share, self._hang_s)
            self._batchers[key] = batcher
        return batcher

    def follow(self, routes: list[RouteChanged]) -> None:
        """Connect to what the routes name and let go of queues that none of them needs."""
        for route in routes:
            self._link(route.runtime, shadow=False)
        named = {
            (route.runtime, share.slot, share.sha256)
            for route in routes
            for share in route.shares
        }
        for key in [key for key in self._batchers if key[:3] not in named]:
            if self._batchers[key].idle:
                self._batchers.pop(key).close()

    def unreachable(self) -> str | None:
        """Answer None while every runtime is connected."""
        away = sorted(
            {
                address
                for (address, shadow), link in self._links.items()
                if not shadow and not link.up
            }
        )
        return (
            f"runtime: expected a connection to {', '.join(away)}; found none" if away else None
        )

    async def start(self) -> None:
        """Nothing to wait for: runtimes are connected to as routes name them."""

    async def stop(self) -> None:
        """Let all connections go."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    def healthy(self) -> str | None:
        """Answer None while connections are looked after."""
        if any(task.done() for task in self._tasks):
            return "runtime links: expected them to be looked after; found one ended"
        return None

    def _link(self, address: str, *, shadow: bool) -> Link:
        key = (address, shadow)
        if key not in self._links:
            link = self._links[key] = Link(address, self._rng)
            self._tasks.append(asyncio.create_task(link.keep(), name=f"link {address}"))
        return self._links[key]
