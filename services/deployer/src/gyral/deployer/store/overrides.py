"""What operators do to rollouts: hold them, let them go on, roll completed ones back."""

from dataclasses import replace

from gyral.contracts.deployment import (
    RolloutCompleted,
    RolloutSteered,
    RouteChanged,
    Share,
    Steer,
)
from gyral.deployer.domain.routes import answering, returned
from gyral.deployer.store.rollouts import StoredRollout
from gyral.deployer.store.transitions import (
    Moment,
    Override,
    TransitionTx,
    ids_of,
    stage_name,
)


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
        )
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
                f"{rollout.model}@{rollout.version}: expected it to answer alone, and the "
                "version before it to be kept warm; found it otherwise"
            )
        if running is not None:
            why = f"version {rollout.version} was rolled back: {by.reason}"
            await self.abort(running, why[:500], {}, moment, by=by)
        await self._hand_back(route, rollout, back, by, moment)

    async def _hand_back(
        self,
        route: RouteChanged,
        rollout: StoredRollout,
        back: Share,
        by: Override,
        moment: Moment,
    ) -> None:
        target = await self.rollout(rollout.model, back.version)
        if target is None:
            raise LookupError(f"{rollout.model}@{back.version}: expected a rollout; found none")
        epoch = route.epoch + 1
        self.because(rollout.cause, step=f"{rollout.version}/rolled_back")
        await self.set_route(route.model_copy(update={"epoch": epoch, "shares": (back,)}))
        await self.roll_back(
            rollout.model, rollout.version, actor=by.actor, reason=by.reason, now=moment.now
        )
        await self.publish(
            RolloutCompleted(
                **ids_of(target, epoch),
                previous=rollout.version,
                as_of=moment.as_of,
                actor=by.actor,
                reason=by.reason,
            )
        )


def _back(route: RouteChanged | None, version: int) -> Share | None:
    """Return the share that answers alone once a version is rolled back, or None."""
    if route is None or answering(route.shares) != version:
        return None
    return returned(route.shares, version)
