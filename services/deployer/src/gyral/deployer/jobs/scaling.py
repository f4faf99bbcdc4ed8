"""How many runtimes each group is to have, decided by what it is asked, and made so."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from gyral.contracts.inference import ServingDemand
from gyral.contracts.specs.serving import Serving
from gyral.deployer.domain import scaling
from gyral.deployer.domain.demand import Demand, Second
from gyral.deployer.domain.scaling import Heard, Limits, Pace, Scaled, Standing
from gyral.deployer.engine.backend import SHARED, Backend, Flavour, GroupSpec
from gyral.deployer.engine.groups import Groups, Seat
from gyral.deployer.store import DeployerTx
from gyral.deployer.store.groups import StoredGroup
from gyral.deployer.store.specs import Specs
from gyral.kit.health import UnstartableError
from gyral.kit.telemetry import get_log
from gyral.kit.tx import Begin

log = get_log()


async def nobody_is_left(begin: Begin[DeployerTx]) -> None:
    """Return where no runtimes are wanted of a backend, as there is none any more.

    Raises:
        UnstartableError: some are, and nobody would look after them.
    """
    async with begin() as tx:
        rows = sorted(await tx.groups())
    if rows:
        raise UnstartableError(
            "DEPLOYER_BACKEND: expected the backend that makes the runtimes of"
            f" {', '.join(rows[:3])} ({len(rows)} in all); found none, and nobody would end"
            " them. Set it back, declare every model `runtime: shared`, set RUNTIME_URL, and"
            " start with none once `gyral get runtimes` lists no other group"
        )


@dataclass(frozen=True, slots=True)
class _Scene:
    """What a look around found."""

    owning: dict[str, Serving]
    made: dict[str, tuple[Seat, ...]]
    """What the backend made."""
    named: frozenset[str]
    """Addresses that routes name of runtimes that are to be there."""
    warming: frozenset[str]
    """Models with a version that is being prepared."""


@dataclass(slots=True)
class Scaling:
    """Decides about groups, and has the backend follow what was decided.

    A group has a row once it needs runtimes: the row says how many, and outlives any process.
    """

    begin: Begin[DeployerTx]
    groups: Groups
    backend: Backend
    specs: Specs
    demand: Demand
    pace: Pace
    shared: Limits
    linger_s: float
    """How long a runtime goes on that no route names any more: a gateway may follow an older
    one."""
    now: Callable[[], datetime]
    clock: Callable[[], float]
    """Seconds that never go back; by it demand is told."""
    woken: Callable[[], None] = lambda: None
    """Called when somebody waits for a runtime."""
    _unnamed_since: dict[str, float] = field(default_factory=dict)

    def heard(self, told: ServingDemand) -> None:
        """Remember what a gateway was asked."""
        self.demand.hear(told.gateway, self.clock())
        if told.model is None:
            return
        serving = self.specs.serving(told.model)
        if serving is None:
            return
        group = self.groups.group_of(told.model, serving)
        self.demand.take(
            group,
            Second(
                at=int(self.clock()),
                requests=told.requests,
                refused=told.refused,
                answered=told.answered,
                queued_s=told.queue_mean_s * told.answered,
                queue_max_s=told.queue_max_s,
                waiting=told.waiting,
            ),
        )
        if told.waiting:
            self.woken()

    async def wake(self, group: str, why: str) -> None:
        """Have a group have a runtime, where it has none."""
        limits = self._limits(group, self.specs.owning())
        async with self.begin() as tx:
            await tx.hold_group(group)
            row = await tx.group(group)
            if row is None or row.replicas == 0:
                await tx.scale(group, max(limits.min, 1), why=why, now=self.now())
            else:
                return
        self.woken()

    async def run_once(self) -> None:
        """Decide about every group that has or needs runtimes; then make it so."""
        owning = self.specs.owning()
        async with self.begin() as tx:
            rows, routes, warming = await tx.groups(), await tx.routes(), await tx.warming()
        named = {each for route in routes if not route.dormant for each in route.runtimes}
        scene = _Scene(owning, await self.groups.made(), frozenset(named), warming)
        needed = {route.model for route in routes} & set(owning)
        if self.groups.makes(SHARED):
            needed.add(SHARED)
        for group in sorted(rows.keys() | needed):
            if self._decided(group, rows.get(group), scene) is not None:
                await self._change(group, scene)
        async with self.begin() as tx:
            rows, of_torch = await tx.groups(), await tx.of_torch()
        await self._follow(rows, scene, of_torch | self.specs.of_torch())

    async def _change(self, group: str, scene: "_Scene") -> None:
        """Change one group's number, in one transaction with the event that says so."""
        async with self.begin() as tx:
            await tx.hold_group(group)
            row = await tx.group(group)
            decided = self._decided(group, row, scene)
            if decided is None:
                return
            if self._wanted(group, scene):
                await tx.scale(
                    group,
                    decided.after,
                    why=decided.why,
                    now=self.now(),
                    measured=decided.measured,
                )
            else:
                await tx.forget_group(group, why=decided.why)
        before = row.replicas if row else None
        log.info(
            "runtimes.scaled", group=group, before=before, after=decided.after, why=decided.why
        )

    def _wanted(self, group: str, scene: "_Scene") -> bool:
        return group in scene.owning or (group == SHARED and self.groups.makes(SHARED))

    def _decided(self, group: str, row: StoredGroup | None, scene: "_Scene") -> Scaled | None:
        """Return what is to change of a group, as far as is known now."""
        seats = scene.made.get(group, ())
        if not self._wanted(group, scene):
            if row is None or scene.named.intersection(each.address for each in seats):
                return None
            others = "others hold its models" if group == SHARED else f"{SHARED} ones hold it"
            return Scaled(0, f"declared: {others}", {})
        limits, now = self._limits(group, scene.owning), self.clock()
        if group in scene.warming:  # nobody asks it yet, and it needs a runtime
            limits = replace(limits, min=max(limits.min, 1))
        if row is None:
            why = f"declared: expected {limits.min} to {limits.max} runtimes; found none"
            return Scaled(max(limits.min, 1), why, {})
        there = sum(each.ready for each in seats[: row.replicas])
        standing = Standing(row.replicas, there, (self.now() - row.since).total_seconds())
        heard = Heard(
            self.demand.seen(group),
            now,
            self.demand.began,
            self.demand.known_until(now),
            self.demand.idle_since(group),
        )
        return scaling.decide(standing, limits, heard, self.pace)

    def _limits(self, group: str, owning: dict[str, Serving]) -> Limits:
        """Return between what a group is scaled; an elastic backend is only told whether."""
        serving = owning.get(group)
        limits = self.shared
        if serving is not None:
            replicas = serving.replicas
            limits = Limits(replicas.min, replicas.max, serving.queue, serving.idle_s)
        if not self.groups.elastic:
            return limits
        return Limits(limits.min, max(limits.min, 1), limits.queue_s, limits.idle_s)

    async def _follow(
        self, rows: dict[str, StoredGroup], scene: "_Scene", of_torch: frozenset[str]
    ) -> None:
        """Have the backend make what is wanted; what is not ends once no gateway asks it."""
        self._note_unnamed(scene.made, scene.named)
        refused: list[ConnectionError] = []
        followed = 0
        for group, row in rows.items():
            kept = self._kept(scene.made.get(group, ()), row.replicas)
            flavour = Flavour.TORCH if group in of_torch else Flavour.ONNX
            spec = self._spec(group, kept, flavour, scene.owning.get(group))
            followed += await self._tried(group, self.backend.ensure(spec), refused)
        for group, each in scene.made.items():
            if group not in rows and self._kept(each, 0) == 0:
                followed += await self._tried(group, self.backend.remove(group), refused)
        if refused and not followed:
            raise refused[-1]

    def _spec(
        self, group: str, kept: int, flavour: Flavour, serving: Serving | None
    ) -> GroupSpec:
        most = serving.replicas.max if serving else self.shared.max
        queue_s = serving.queue if serving else self.shared.queue_s
        return GroupSpec(group, kept, flavour, most, queue_s)

    @staticmethod
    async def _tried(group: str, call: Awaitable[None], refused: list[ConnectionError]) -> bool:
        """Return True when the backend did so; a group that it refuses holds up no other."""
        try:
            await call
        except ConnectionError as error:
            log.warning("group.not_followed", group=group, reason=str(error))
            refused.append(error)
            return False
        return True

    def _note_unnamed(self, made: dict[str, tuple[Seat, ...]], named: frozenset[str]) -> None:
        now = self.clock()
        there = {each.address for seats in made.values() for each in seats}
        self._unnamed_since = {
            address: self._unnamed_since.get(address, now) for address in there - named
        }

    def _kept(self, seats: tuple[Seat, ...], wanted: int) -> int:
        """Return how many are to stay: as many as wanted, and those that may be asked yet."""
        if self.groups.elastic:
            return wanted if wanted or all(map(self._left, seats)) else 1
        for number in range(len(seats), wanted, -1):
            if not self._left(seats[number - 1]):
                return number
        return wanted

    def _left(self, seat: Seat) -> bool:
        since = self._unnamed_since.get(seat.address)
        return since is not None and self.clock() - since >= self.linger_s
