"""What operators do to rollouts: hold them, let them go on, take completed ones back."""

from dataclasses import replace
from datetime import datetime

from gyral.contracts.deployment import (
    RolloutCompleted,
    RolloutSteered,
    RouteChanged,
    RoutePinned,
    Share,
    Steer,
)
from gyral.deployer.domain import rollouts
from gyral.deployer.domain.rollouts import Advance, Stage
from gyral.deployer.domain.routes import answering, returned
from gyral.deployer.store.rollouts import StoredRollout
from gyral.deployer.store.transitions import (
    Moment,
    Override,
    TransitionTx,
    ids_of,
    slot,
    stage_name,
)
from gyral.kit.telemetry import get_log
from gyral.kit.tx import PermanentError

log = get_log()


class NothingToReturnToError(LookupError):
    """No other version is kept warm in the route: there is no way back."""


class OverrideTx(TransitionTx):
    """A transaction that carries out an operator's word; the caller holds the model."""

    async def steer(
        self, rollout: StoredRollout, order: Steer, by: Override, moment: Moment
    ) -> None:
        """Hold a rollout in its step, or let it go on; the same order again changes nothing."""
        state = replace(rollout.state, paused=order is Steer.PAUSED)
        if state == rollout.state or rollout.epoch is None:
            return
        await self.move(
            rollout,
            state,
            epoch=rollout.epoch,
            actor=by.actor,
            reason=by.reason,
            now=moment.now,
            as_of=moment.as_of,
        )
        await self._tell_steered(rollout, order, by, moment)

    async def approve(self, rollout: StoredRollout, by: Override, moment: Moment) -> None:
        """Let a version that awaits its approval answer requests."""
        await self._tell_steered(rollout, Steer.APPROVED, by, moment)
        state = rollouts.approved(rollout.spec.spec.rollout)
        await self.take(rollout, Advance(state), rollout.measured, moment, by=by)

    async def _tell_steered(
        self, rollout: StoredRollout, order: Steer, by: Override, moment: Moment
    ) -> None:
        if rollout.epoch is None:
            return
        self.because(rollout.cause, step=f"{rollout.version}/{order}/{moment.now.isoformat()}")
        await self.publish(
            RolloutSteered(
                **ids_of(rollout, rollout.epoch),
                order=order,
                stage=stage_name(rollout.state),
                actor=by.actor,
                reason=by.reason,
            )
        )

    async def roll_back_completed(
        self, rollout: StoredRollout, by: Override, moment: Moment
    ) -> None:
        """Have the version before this one answer alone again, and say that it does.

        A version that warms up meanwhile is aborted: its rival answers no more.

        Raises:
            NothingToReturnToError: it is not the one that answers, or the route holds no other
                version that once answered.
        """
        route = await self.route(rollout.model)
        running = await self.in_flight(rollout.model)
        back = (
            _back(route, rollout.version) if running is None or running.epoch is None else None
        )
        if route is None or back is None:
            raise NothingToReturnToError(
                f"{rollout.model}@{rollout.version}: expected the version before it to be kept "
                "warm beside it; found none: there is one step back, and a newer version takes "
                "its place in the route"
            )
        if running is not None:
            why = f"version {rollout.version} was rolled back: {by.reason}"
            await self.abort(running, why[:500], {}, moment, by=by)
        epoch = route.epoch + 1
        self.because(rollout.cause, step=f"{rollout.version}/rolled_back")
        alone = route.model_copy(update={"epoch": epoch, "shares": (back,)})
        await self.set_route(alone, now=moment.now)
        await self._hand_back(rollout, back.version, epoch, by, moment)

    async def adopt(self, pinned: RoutePinned, moment: Moment) -> None:
        """Make a pin the model's route, at an epoch that lifts it.

        What is under way is taken back. A pin whose version never was champion with those bytes
        is refused, and one of an order that was adopted before takes back nothing more: the
        route stays, and the pin is lifted all the same.
        """
        route = await self.route(pinned.key)
        if route is None:
            raise PermanentError(f"{pinned.key}: expected a model with a route; found none")
        if route.epoch > pinned.route.epoch:
            return
        [share] = pinned.route.shares
        self.because(pinned.delivery, step=f"{pinned.key}/{pinned.route.epoch}/adopted")
        if not await self._can_serve(pinned.key, share) or not await self._take_pin(
            pinned, moment.now
        ):
            beyond = route.model_copy(update={"epoch": pinned.route.epoch + 1})
            await self.repeat(beyond, moment.now)
            return
        await self._return_to(share, route, pinned, moment)

    async def _return_to(
        self, share: Share, route: RouteChanged, pinned: RoutePinned, moment: Moment
    ) -> None:
        """Have a pinned version answer alone, and say what was taken back for it."""
        by = Override(pinned.actor, pinned.reason)
        epoch = pinned.route.epoch + 1
        champion = answering(route.shares)
        running = await self.in_flight(pinned.key)
        if running is not None:
            champion = running.previous
            await self.abort(running, f"pinned: {by.reason}"[:500], {}, moment, by=by)
            self.because(pinned.delivery, step=f"{pinned.key}/{pinned.route.epoch}/adopted")
            epoch = max(epoch, route.epoch + 2)  # the abort has a route of its own
        alone = route.model_copy(update={"epoch": epoch, "shares": (share,)})
        await self.set_route(alone, now=moment.now)
        if champion is not None and champion != share.version:
            taken = await self._known(pinned.key, champion)
            await self._hand_back(taken, share.version, epoch, by, moment)

    async def _can_serve(self, model: str, share: Share) -> bool:
        target = await self.rollout(model, share.version)
        served = target is not None and _has_served(target, share)
        if not served:
            log.warning("pin.refused", model=model, version=share.version)
        return served

    async def _take_pin(self, pinned: RoutePinned, now: datetime) -> bool:
        """True for the first pin of an order that is adopted for its model."""
        taken: bool | None = await self.conn.fetchval(
            """
            INSERT INTO pin (pin_id, model, adopted_at)
            VALUES ($1, $2, $3)
                ON CONFLICT DO NOTHING
            RETURNING true
            """,
            pinned.pin_id, pinned.key, now,
        )  # fmt: skip
        return bool(taken)

    async def _hand_back(
        self, taken: StoredRollout, to: int, epoch: int, by: Override, moment: Moment
    ) -> None:
        """Remember that a version was rolled back, and tell which one is champion again."""
        target = await self._known(taken.model, to)
        await self.roll_back(
            taken.model, taken.version, actor=by.actor, reason=by.reason, now=moment.now
        )
        await self.publish(
            RolloutCompleted(
                **ids_of(target, epoch),
                previous=taken.version,
                as_of=moment.as_of,
                actor=by.actor,
                reason=by.reason,
            )
        )

    async def _known(self, model: str, version: int) -> StoredRollout:
        rollout = await self.rollout(model, version)
        if rollout is None:
            raise LookupError(f"{model}@{version}: expected a rollout; found none")
        return rollout


def _has_served(rollout: StoredRollout, share: Share) -> bool:
    return (
        rollout.state.stage is Stage.COMPLETED
        and rollout.artifacts.onnx.sha256 == share.sha256
        and share.slot == slot(rollout.model, rollout.version)
    )


def _back(route: RouteChanged | None, version: int) -> Share | None:
    """Return the share that answers alone once a version is rolled back, or None."""
    if route is None or answering(route.shares) != version:
        return None
    return returned(route.shares, version)
