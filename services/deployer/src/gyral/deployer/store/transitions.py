"""Moving a rollout.

Its state, the route that says the same, and the event that tells of it, at once.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from gyral.contracts.deployment import (
    Input,
    RolloutAborted,
    RolloutAdvanced,
    RolloutCompleted,
    RolloutStarted,
    RouteChanged,
)
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.versions import VersionApproved
from gyral.deployer.domain import rollouts
from gyral.deployer.domain.measures import Measures
from gyral.deployer.domain.rollouts import Abort, Advance, Await, Extend, Stage, State
from gyral.deployer.domain.routes import Serving, shares
from gyral.deployer.store.rollouts import RolloutTx, StoredRollout


@dataclass(frozen=True, slots=True)
class Moment:
    """When a decision falls: on the wall clock, and in event time where there is one."""

    now: datetime
    as_of: datetime | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """Who moved a rollout by hand, and why."""

    actor: str
    reason: str


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a route says beside its shares."""

    runtimes: tuple[str, ...]
    event_clock: bool
    inputs: tuple[Input, ...]


class TransitionTx(RolloutTx):
    """A transaction that moves rollouts; the caller holds the model."""

    async def moment(self, model: str, now: datetime, partitions: int) -> Moment:
        """Return when a decision about a routed model falls: on a wall clock, as of now.

        Args:
            model: the model decided about.
            now: the wall clock's time.
            partitions: number of the prediction log's, all of which must have markers.
        """
        route = await self.route(model)
        if route is not None and not route.event_clock:
            return Moment(now, as_of=now)
        return Moment(now, as_of=await self.watermark(model, partitions))

    async def refuse(
        self, approved: VersionApproved, spec: ModelSpec, reason: str, moment: Moment
    ) -> None:
        """Take a version back before anything was done for it: its rollout begins aborted."""
        await self.begin_rollout(approved, spec, now=moment.now, stage=Stage.ABORTED)
        refused = await self.rollout(approved.model, approved.version)
        assert refused is not None  # noqa: S101 - it was just inserted
        await self.abort(refused, reason, {}, moment)

    async def go_live(
        self, rollout: StoredRollout, around: Surroundings, now: datetime
    ) -> None:
        """Give a warm version its shadow or canary; all requests as its model's first."""
        moment = Moment(now, as_of=None if around.event_clock else now)
        state = rollouts.warmed(rollout.spec.spec.rollout, bootstrap=rollout.bootstrap)
        self.because(rollout.cause, step=f"{rollout.version}/live")
        epoch = await self._reroute(rollout, state, around, now)
        await self.publish(
            RolloutStarted(
                **ids_of(rollout, epoch), stage=stage_name(state), previous=rollout.previous
            )
        )
        await self._settle(rollout, state, epoch, moment)

    async def take(
        self,
        rollout: StoredRollout,
        decision: Advance | Extend | Await | Abort,
        measured: Measures,
        moment: Moment,
        *,
        by: Override | None = None,
    ) -> None:
        """Carry out a decision, of the state machine or of an operator."""
        if isinstance(decision, Extend | Await):
            await self.move(
                rollout, decision.state, epoch=rollout.epoch, reason=None, now=moment.now
            )
            return
        if isinstance(decision, Abort):
            await self.abort(rollout, decision.reason, measured, moment, by=by)
            return
        self.because(
            rollout.cause,
            step=f"{rollout.version}/{decision.state.stage}/{decision.state.step}",
        )
        around = await self._around(rollout)
        epoch = await self._reroute(rollout, decision.state, around, moment.now)
        await self.publish(
            RolloutAdvanced(
                **ids_of(rollout, epoch),
                stage=stage_name(decision.state),
                weight=rollouts.weight(decision.state, rollout.spec.spec.rollout),
                measured=dict(measured),
                as_of=moment.as_of,
            )
        )
        await self._settle(rollout, decision.state, epoch, moment, by)

    async def abort(
        self,
        rollout: StoredRollout,
        reason: str,
        measured: Measures,
        moment: Moment,
        *,
        by: Override | None = None,
    ) -> None:
        """Take a version back: the previous one answers alone again."""
        self.because(rollout.cause, step=f"{rollout.version}/aborted")
        state = State(Stage.ABORTED, rollout.state.step)
        route = await self.route(rollout.model)
        epoch = route.epoch if route else 1
        if route is not None and rollout.epoch is not None:
            around = await self._around(rollout)
            epoch = await self._reroute(rollout, state, around, moment.now)
        actor = by.actor if by else None
        await self.move(rollout, state, epoch=epoch, actor=actor, reason=reason, now=moment.now)
        await self.publish(
            RolloutAborted(
                **ids_of(rollout, epoch),
                stage=stage_name(rollout.state),
                reason=reason[:500],
                actor=by.actor if by else "deployer",
                measured=dict(measured),
                as_of=moment.as_of,
            )
        )

    async def _settle(
        self,
        rollout: StoredRollout,
        state: State,
        epoch: int,
        moment: Moment,
        by: Override | None = None,
    ) -> None:
        """Remember the new state; a completed rollout says so."""
        await self.move(
            rollout,
            state,
            epoch=epoch,
            actor=by.actor if by else None,
            reason=by.reason if by else None,
            now=moment.now,
        )
        await self.forget_observations(rollout.model, epoch)
        if state.stage is Stage.COMPLETED:
            await self.publish(
                RolloutCompleted(
                    **ids_of(rollout, epoch),
                    previous=rollout.previous,
                    as_of=moment.as_of,
                    actor=by.actor if by else "deployer",
                    reason=by.reason if by else "rollout completed",
                )
            )

    async def readdress(
        self,
        route: RouteChanged,
        runtimes: tuple[str, ...],
        now: datetime,
        *,
        dormant: bool = False,
    ) -> None:
        """Publish a route again that these runtimes answer from now on, as those before did."""
        moved = route.model_copy(
            update={
                "epoch": route.epoch + 1,
                "runtime": runtimes[0],
                "replicas": runtimes[1:],
                "dormant": dormant,
            }
        )
        await self.repeat(moved, now)

    async def repeat(self, route: RouteChanged, now: datetime) -> None:
        """Publish a route of the same shares at a later epoch; its step goes on there."""
        await self.set_route(route, now=now)
        running = await self.in_flight(route.model)
        if running is None or running.epoch is None:
            return
        await self.carry_observations(route.model, running.epoch, route.epoch)
        await self.move(
            running,
            running.state,
            epoch=route.epoch,
            actor=running.actor,
            reason=running.reason,
            now=now,
        )

    async def _reroute(
        self, rollout: StoredRollout, state: State, around: Surroundings, now: datetime
    ) -> int:
        """Publish the route that this state means and return its epoch."""
        before = await self.route(rollout.model)
        candidate = Serving(
            rollout.version,
            rollout.artifacts.onnx.sha256,
            around.inputs,
            slot(rollout.model, rollout.version),
        )
        epoch = before.epoch + 1 if before else 1
        # A runtime that the route does not name yet may lack its other versions.
        runtimes = before.runtimes if before else around.runtimes
        await self.set_route(
            RouteChanged(
                model=rollout.model,
                epoch=epoch,
                shares=shares(
                    before.shares if before else (), candidate, state, rollout.spec.spec.rollout
                ),
                runtime=runtimes[0],
                replicas=runtimes[1:],
                event_clock=around.event_clock,
                dormant=before.dormant if before else False,
            ),
            now=now,
        )
        return epoch

    async def _around(self, rollout: StoredRollout) -> Surroundings:
        """Take what does not change during a rollout from the route it has now."""
        route = await self.route(rollout.model)
        if route is None:
            raise LookupError(
                f"{rollout.model}@{rollout.version}: expected a route; found none"
            )
        own = next(share for share in route.shares if share.version == rollout.version)
        return Surroundings(route.runtimes, route.event_clock, own.inputs)


def slot(model: str, version: int) -> str:
    """Return the name under which the runtime holds a version."""
    return f"{model}@{version}"


def stage_name(state: State) -> str:
    """Return a stage as events name it: `shadow`, `canary/0`."""
    return f"{state.stage}/{state.step}" if state.stage is Stage.CANARY else str(state.stage)


class Ids(TypedDict):
    """What every event of a rollout begins with."""

    model: str
    version: int
    run_id: str
    request_id: str
    epoch: int


def ids_of(rollout: StoredRollout, epoch: int) -> Ids:
    """Return what an event of this rollout begins with."""
    return Ids(
        model=rollout.model,
        version=rollout.version,
        run_id=rollout.run_id,
        request_id=rollout.request_id,
        epoch=epoch,
    )
