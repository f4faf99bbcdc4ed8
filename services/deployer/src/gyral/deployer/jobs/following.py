"""Keeping the runtimes in step with the routes, and the routes with the runtimes."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from gyral.contracts.deployment import RouteChanged
from gyral.deployer.jobs.runtimes import NotNowError, RefusedByRuntimeError, Runtime
from gyral.deployer.store import DeployerTx
from gyral.kit.changes import Changes
from gyral.kit.telemetry import get_log
from gyral.kit.tx import Begin

log = get_log()

LINGER = timedelta(minutes=1)
"""How long a version stays loaded after its rollout and after its route ceased to name it: a
gateway may follow an older route."""


@dataclass(frozen=True, slots=True)
class Addressing:
    """Has every route name the runtimes that this deployer looks after, and no others."""

    begin: Begin[DeployerTx]
    runtimes: Mapping[str, Runtime]
    """By the data socket that routes name, in the order they do."""
    now: Callable[[], datetime]
    changes: Changes

    async def run_once(self) -> None:
        """Publish anew each route that names others: a runtime was added or taken away.

        One that was added is named once it holds every version of the route. A step under way
        goes on at the new epoch.
        """
        async with self.begin() as tx:
            routes = await tx.routes()
        stale = [each.model for each in routes if each.runtimes != tuple(self.runtimes)]
        if not stale:
            return
        found = await asyncio.gather(*map(_held, self.runtimes.values()))
        held = dict(zip(self.runtimes, found, strict=True))
        for model in stale:
            await self._readdress(model, held)
        self.changes.notify()

    async def _readdress(self, model: str, held: Mapping[str, Mapping[str, str]]) -> None:
        async with self.begin() as tx:
            await tx.hold(model)
            route = await tx.route(model)
            if route is None:
                return
            named = tuple(
                address
                for address in self.runtimes
                if address in route.runtimes or _covers(held[address], route)
            )
            if named and named != route.runtimes:
                await tx.readdress(route, named, self.now())
                log.info("route.readdressed", model=model, runtimes=len(named))


async def _held(runtime: Runtime) -> dict[str, str]:
    """Return what a runtime holds; nothing while it does not say."""
    try:
        return await runtime.held()
    except (ConnectionError, RefusedByRuntimeError) as error:
        log.warning("runtime.unknown", error=str(error))
        return {}


def _covers(held: Mapping[str, str], route: RouteChanged) -> bool:
    return all(held.get(share.slot) == share.sha256 for share in route.shares)


@dataclass(frozen=True, slots=True)
class Reconciliation:
    """Compares what routes name with what one runtime holds: no less, and no leftovers."""

    begin: Begin[DeployerTx]
    runtime: Runtime
    now: Callable[[], datetime]

    async def run_once(self) -> None:
        """Load every routed version that the runtime does not hold with the routed bytes.

        Versions whose rollout is over and that no route has named for a while are unloaded
        before: they take the room that others wait for.
        """
        held = await self.runtime.held()
        async with self.begin() as tx:
            routes = await tx.routes()
            over = await tx.over(held, before=self.now() - LINGER)
        routed = {share.slot for route in routes for share in route.shares}
        for name in sorted(over - routed):
            await self._unload(name)
        for route in routes:
            for share in route.shares:
                if held.get(share.slot) != share.sha256:
                    await self._load(route, share.version, share.slot)

    async def _unload(self, name: str) -> None:
        try:
            await self.runtime.unload(name)
        except (RefusedByRuntimeError, NotNowError) as refusal:
            log.warning("runtime.kept", slot=name, error=str(refusal))
        else:
            log.info("runtime.unloaded", slot=name)

    async def _load(self, route: RouteChanged, version: int, name: str) -> None:
        async with self.begin() as tx:
            rollout = await tx.rollout(route.model, version)
        if rollout is not None:
            try:
                await self.runtime.load(name, rollout.artifacts)
            except (RefusedByRuntimeError, NotNowError) as refusal:
                # One that is not taken must not keep the others from being looked after.
                log.warning(
                    "runtime.refused", model=route.model, version=version, error=str(refusal)
                )
            else:
                log.warning("runtime.reloaded", model=route.model, version=version)
