"""The runtimes and versions that the current routes name, each with its queue."""

import asyncio
import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from gyral.contracts.deployment import RouteChanged, Share
from gyral.gateway.engine.batcher import Batcher
from gyral.gateway.engine.crowding import Crowd, Room
from gyral.gateway.engine.link import Link
from gyral.gateway.engine.reporting import Asked

_Key: TypeAlias = tuple[str, str, str, bool]
"""Address, slot, sha256, and whether it is a shadow's."""
_SHADOWS = Room(most=1 << 30, wait_s=math.inf)
"""Copies are bounded where they are made; nobody waits for them."""


@dataclass(frozen=True, slots=True)
class _Kept:
    """A connection, and the task that makes it come back."""

    link: Link
    keeping: asyncio.Task[None]


class Fleet:
    """Queues that follow the routes; live and shadow requests have connections of their own.

    Queues and connections that no route names are let go once their last request has ended.
    """

    def __init__(
        self,
        rng: random.Random,
        *,
        hang_s: float,
        room: Room | None = None,
        service_key: str = "",
    ) -> None:
        self._rng = rng
        self._service_key = service_key
        self._hang_s = hang_s
        self._room = room or Room()
        self._links: dict[tuple[str, bool], _Kept] = {}
        self._batchers: dict[_Key, Batcher] = {}
        self._addresses: frozenset[str] = frozenset()
        self._served_at: tuple[tuple[str, ...], ...] = ()
        """The runtimes of each route that is to have any now."""
        self._named: frozenset[tuple[str, str, str]] = frozenset()
        self._ending: set[asyncio.Task[None]] = set()
        self.away: Callable[[str], None] = lambda _model: None
        """Called with a model that is asked while none of its runtimes is there."""

    def batcher(self, route: RouteChanged, share: Share, *, shadow: bool) -> Batcher:
        """Return the queue of a version that is shortest, of those whose runtime is there."""
        if not route.replicas:
            chosen = self._batcher(route.runtime, share, shadow=shadow)
        else:
            chosen = min(
                [self._batcher(address, share, shadow=shadow) for address in route.runtimes],
                key=lambda each: (not each.link.up, each.lacking, each.crowd.requests),
            )
        if not chosen.link.up and not shadow:
            self._missed(route)
        return chosen

    def collect(self) -> dict[str, Asked]:
        """Return what each model was asked since the last call."""
        found: dict[str, Asked] = {}
        for (_, slot, _, shadow), batcher in self._batchers.items():
            if shadow:
                continue
            asked = found.setdefault(slot.rpartition("@")[0], Asked())
            crowd = batcher.crowd
            asked.requests += crowd.taken
            asked.refused += crowd.refused
            asked.answered += crowd.answered
            asked.queued_s += crowd.queued_s
            asked.queue_max_s = max(asked.queue_max_s, crowd.queue_max_s)
            crowd.taken = crowd.refused = crowd.answered = 0
            crowd.queued_s = crowd.queue_max_s = 0.0
            if not batcher.link.up:
                asked.waiting += crowd.requests
        return {model: asked for model, asked in found.items() if asked}

    def _missed(self, route: RouteChanged) -> None:
        """Tell that a request finds no runtime; where one is to come, look for it often."""
        self.away(route.model)
        for address in route.runtimes:
            self._link(address, shadow=False).hurry()

    def links(self, route: RouteChanged) -> list[Link]:
        """Return the connection to each runtime of a route."""
        return [self._link(address, shadow=False) for address in route.runtimes]

    def _batcher(self, address: str, share: Share, *, shadow: bool) -> Batcher:
        """Return the queue of a version at one runtime, made at first use."""
        key = (address, share.slot, share.sha256, shadow)
        batcher = self._batchers.get(key)
        if batcher is None or not batcher.answers_for(share):
            if batcher is not None:
                batcher.let_go = partial(self._let_go, key, batcher)
                batcher.rest()
            link = self._link(address, shadow=shadow)
            crowd = Crowd(_SHADOWS if shadow else self._room)
            batcher = Batcher(link, share, self._hang_s, crowd, partial(self._elsewhere, key))
            if key[:3] not in self._named:  # the request began before the route changed
                batcher.let_go = partial(self._let_go, key, batcher)
            self._batchers[key] = batcher
        return batcher

    def follow(self, routes: list[RouteChanged]) -> None:
        """Connect to what the routes name; let go of the rest as its last requests end."""
        self._addresses = frozenset(each for route in routes for each in route.runtimes)
        self._served_at = tuple(route.runtimes for route in routes if not route.dormant)
        self._named = frozenset(
            (address, share.slot, share.sha256)
            for route in routes
            for share in route.shares
            for address in route.runtimes
        )
        asleep = {each for route in routes if route.dormant for each in route.runtimes}
        for address in self._addresses:
            link = self._link(address, shadow=False)
            link.rest() if address in asleep else link.hurry()
        served = {
            (share.slot, share.sha256): (route, share)
            for route in routes
            for share in route.shares
        }
        for key, batcher in list(self._batchers.items()):
            named = key[:3] in self._named
            batcher.let_go = None if named else partial(self._let_go, key, batcher)
            if not named and not batcher.idle and key[1:3] in served:
                # Who waits at an address that nobody names any more can go on at the new one.
                route, share = served[key[1:3]]
                self._batcher(route.runtime, share, shadow=key[3])
            batcher.rest()
        self._close_unused()

    def unreachable(self) -> str | None:
        """Answer None while some runtime of every route is connected.

        Whoever asks for the gateway's readiness reads it, without a key: it names nobody.
        """
        up = {
            address
            for (address, shadow), kept in self._links.items()
            if not shadow and kept.link.up
        }
        away = sum(up.isdisjoint(runtimes) for runtimes in self._served_at)
        if not away:
            return None
        return (
            f"runtime: expected one connected for each of {len(self._served_at)} routes; found"
            f" none for {away}"
        )

    async def start(self) -> None:
        """Nothing to wait for: runtimes are connected to as routes name them."""

    async def stop(self) -> None:
        """Let all connections go."""
        for key in list(self._links):
            self._close(key)
        await asyncio.gather(*self._ending, return_exceptions=True)

    def healthy(self) -> str | None:
        """Answer None while connections are looked after."""
        if any(kept.keeping.done() for kept in self._links.values()):
            return "runtime links: expected them to be looked after; found one ended"
        return None

    def _elsewhere(self, key: _Key) -> Batcher | None:
        """Return the same version's shortest queue at another runtime that is there."""
        others = [
            batcher
            for other, batcher in self._batchers.items()
            if other[1:] == key[1:] and other[0] != key[0] and batcher.link.up
        ]
        return min(others, key=lambda each: (each.lacking, each.crowd.requests), default=None)

    def _link(self, address: str, *, shadow: bool) -> Link:
        key = (address, shadow)
        if key not in self._links:
            link = Link(address, self._rng, self._service_key)
            keeping = asyncio.create_task(link.keep(), name=f"link {address}")
            self._links[key] = _Kept(link, keeping)
        return self._links[key].link

    def _let_go(self, key: _Key, batcher: Batcher) -> None:
        """Forget a queue that nobody waits in, and the connection that nobody else uses."""
        if self._batchers.get(key) is batcher:
            del self._batchers[key]
        batcher.close()
        self._close_unused()

    def _close_unused(self) -> None:
        for key, kept in list(self._links.items()):
            if key[0] not in self._addresses and not kept.link.used:
                self._close(key)

    def _close(self, key: tuple[str, bool]) -> None:
        keeping = self._links.pop(key).keeping
        self._ending.add(keeping)
        keeping.add_done_callback(self._ending.discard)
        keeping.cancel()
