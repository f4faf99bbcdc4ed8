"""Keeping the runtimes in step with the routes, and the routes with the runtimes."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from gyral.contracts.deployment import RouteChanged
from gyral.contracts.specs.serving import Serving
from gyral.deployer.engine.groups import Groups, Seat
from gyral.deployer.engine.runtimes import NotNowError, RefusedByRuntimeError, Runtime
from gyral.deployer.store import DeployerTx
from gyral.deployer.store.groups import StoredGroup
from gyral.deployer.store.specs import Specs
from gyral.kit.changes import Changes
from gyral.kit.db import is_infrastructure
from gyral.kit.telemetry import get_log
from gyral.kit.tx import Begin

log = get_log()

LINGER = timedelta(minutes=1)
"""How long a version stays loaded after its rollout and after its route ceased to name it: a
gateway may follow an older route."""


_ASK_S = 2.0
"""How long a runtime may take to say what it holds: the others' routes wait for it."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What a model's route is to name."""

    seats: tuple[Seat, ...]
    dormant: str | None = None
    """The address that is named while there is to be no runtime."""

    def met_by(self, route: RouteChanged) -> bool:
        if self.dormant is not None:
            return route.dormant and route.runtimes == (self.dormant,)
        return not route.dormant and route.runtimes == tuple(
            seat.address for seat in self.seats
        )


@dataclass(frozen=True, slots=True)
class Addressing:
    """Has every route name the runtimes of its model's group, and no others."""

    begin: Begin[DeployerTx]
    groups: Groups
    specs: Specs
    now: Callable[[], datetime]
    changes: Changes

    async def run_once(self) -> None:
        """Publish anew each route that names others: a runtime was added or taken away.

        One that was added is named once it holds every version of the route. A step under way
        goes on at the new epoch.
        """
        async with self.begin() as tx:
            routes, rows = await tx.routes(), await tx.groups()
        seats = await self.groups.seats()
        wanted = {route.model: self._wanted(route, seats, rows) for route in routes}
        stale = [each.model for each in routes if not wanted[each.model].met_by(each)]
        if not stale:
            return
        asked = {seat.address: seat.runtime for model in stale for seat in wanted[model].seats}
        found = await asyncio.gather(*map(_held, asked.values()))
        held = dict(zip(asked, found, strict=True))
        for model in stale:
            await self._readdress(model, wanted[model], held)
        self.changes.notify()

    def _wanted(
        self,
        route: RouteChanged,
        seats: Mapping[str, tuple[Seat, ...]],
        rows: Mapping[str, StoredGroup],
    ) -> _Wanted:
        group = group_of(self.groups, self.specs, route)
        here, row = seats.get(group, ()), rows.get(group)
        if not self.groups.makes(group):
            return _Wanted(here)
        if row is not None and row.replicas == 0:
            return _Wanted((), self.groups.entry(group))
        if self.groups.elastic or row is None:
            return _Wanted(here)
        return _Wanted(here[: row.replicas])

    async def _readdress(
        self, model: str, wanted: _Wanted, held: Mapping[str, Mapping[str, str]]
    ) -> None:
        async with self.begin() as tx:
            await tx.hold(model)
            route = await tx.route(model)
            if route is None or wanted.met_by(route):
                return
            known = () if route.dormant else route.runtimes
            named = tuple(
                seat.address
                for seat in wanted.seats
                if seat.address in known or _covers(held[seat.address], route)
            )
            dormant = wanted.dormant is not None
            if wanted.dormant is not None:
                named = (wanted.dormant,)
            if named and (named, dormant) != (route.runtimes, route.dormant):
                await tx.readdress(route, named, self.now(), dormant=dormant)
                log.info("route.readdressed", model=model, runtimes=len(named))


def group_of(groups: Groups, specs: Specs, route: RouteChanged) -> str:
    """Return the group that is to hold a routed model."""
    return groups.group_of(route.model, specs.serving(route.model) or Serving())


async def _held(runtime: Runtime) -> dict[str, str]:
    """Return what a runtime holds; nothing while it does not say."""
    try:
        async with asyncio.timeout(_ASK_S):
            return await runtime.held()
    except (OSError, RefusedByRuntimeError) as error:
        log.warning("runtime.unknown", error=str(error) or type(error).__name__)
        return {}


def _covers(held: Mapping[str, str], route: RouteChanged) -> bool:
    return all(held.get(share.slot) == share.sha256 for share in route.shares)


@dataclass(slots=True)
class Reconciliation:
    """Compares what routes name with what the runtimes hold: no less, and no leftovers.

    Each runtime is looked after for itself: one that hangs holds up no other.
    """

    begin: Begin[DeployerTx]
    groups: Groups
    specs: Specs
    now: Callable[[], datetime]
    _under_way: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _foreign_since: dict[tuple[str, str], datetime] = field(default_factory=dict)

    async def run_once(self) -> None:
        """Begin to look after every runtime that is not being looked after."""
        for address, task in list(self._under_way.items()):
            if task.done():
                del self._under_way[address]
                _result(task, address)
        for group, seats in (await self.groups.seats()).items():
            for seat in seats:
                if seat.ready and seat.address not in self._under_way:
                    looking = asyncio.create_task(self.look_after(group, seat))
                    self._under_way[seat.address] = looking

    async def start(self) -> None:
        """Nothing runs before its time."""

    async def stop(self) -> None:
        """Look after none any more."""
        for task in self._under_way.values():
            task.cancel()
        await asyncio.gather(*self._under_way.values(), return_exceptions=True)
        self._under_way.clear()

    def healthy(self) -> str | None:
        """Answer None: what fails here is told by who calls `run_once`."""
        return None

    async def look_after(self, group: str, seat: Seat) -> None:
        """Load every version routed to the group that the runtime does not hold as routed.

        Versions whose rollout is over and that no route has named for a while are unloaded
        before: they take the room that others wait for. So are those of models that moved.
        """
        held = await seat.runtime.held()
        async with self.begin() as tx:
            routes = await tx.routes()
            over = await tx.over(held, before=self.now() - LINGER)
        mine = [each for each in routes if group_of(self.groups, self.specs, each) == group]
        routed = {share.slot for route in routes for share in route.shares}
        moved = self._moved(seat, held, [each for each in routes if each not in mine])
        for name in sorted((over - routed) | moved):
            await self._unload(seat.runtime, name)
        for route in mine:
            for share in route.shares:
                if held.get(share.slot) != share.sha256:
                    await self._load(seat.runtime, route, share.version, share.slot)

    def _moved(
        self, seat: Seat, held: Mapping[str, str], others: list[RouteChanged]
    ) -> set[str]:
        """Return held versions of other groups' models that nobody has asked here for long."""
        now = self.now()
        found = {
            share.slot
            for route in others
            for share in route.shares
            if share.slot in held and seat.address not in route.runtimes
        }
        for key in [key for key in self._foreign_since if key[0] == seat.address]:
            if key[1] not in found:
                del self._foreign_since[key]
        return {
            name
            for name in found
            if now - self._foreign_since.setdefault((seat.address, name), now) >= LINGER
        }

    async def _unload(self, runtime: Runtime, name: str) -> None:
        try:
            await runtime.unload(name)
        except (RefusedByRuntimeError, NotNowError) as refusal:
            log.warning("runtime.kept", slot=name, error=str(refusal))
        else:
            log.info("runtime.unloaded", slot=name)

    async def _load(
        self, runtime: Runtime, route: RouteChanged, version: int, name: str
    ) -> None:
        async with self.begin() as tx:
            rollout = await tx.rollout(route.model, version)
        if rollout is not None:
            try:
                await runtime.load(name, rollout.artifacts)
            except (RefusedByRuntimeError, NotNowError) as refusal:
                # One that is not taken must not keep the others from being looked after.
                log.warning(
                    "runtime.refused", model=route.model, version=version, error=str(refusal)
                )
            else:
                log.warning("runtime.reloaded", model=route.model, version=version)


def _result(task: "asyncio.Task[None]", address: str) -> None:
    """Raise what a task ended with, unless it is a runtime, or a store, that is away."""
    with suppress(asyncio.CancelledError):
        error = task.exception()
        if error is None:
            return
        if not is_infrastructure(error):
            raise error
        log.warning("runtime.waits", address=address, error=type(error).__name__)
