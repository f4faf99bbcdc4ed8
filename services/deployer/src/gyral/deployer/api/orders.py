"""What operators order: a version ended one way or the other, held, or rolled back."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, TypeAlias

from fastapi import APIRouter, Request

from gyral.contracts.access import Scope
from gyral.contracts.deployment import Steer
from gyral.contracts.events import Contract
from gyral.contracts.names import ModelName, Reason
from gyral.deployer.api.views import RolloutView, not_found, view
from gyral.deployer.domain.rollouts import Abort, Advance, Stage, State
from gyral.deployer.store import DeployerTx
from gyral.deployer.store.overrides import NothingToReturnToError
from gyral.deployer.store.rollouts import StoredRollout
from gyral.deployer.store.transitions import Moment, Override
from gyral.kit.access import Caller
from gyral.kit.changes import Changes
from gyral.kit.http import read_model, scope
from gyral.kit.parameters import VersionNumber
from gyral.kit.refusals import Refusal
from gyral.kit.tx import Begin

Operator = Annotated[Caller, scope(Scope.OPERATE)]


class Order(Contract):
    """An operator's word on a rollout."""

    reason: Reason


CarryOut: TypeAlias = Callable[[DeployerTx, StoredRollout, Override, Moment], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Desk:
    """Takes orders: one transaction each, alone with its model."""

    begin: Begin[DeployerTx]
    changes: Changes
    now: Callable[[], datetime]
    partitions: int
    """Of the prediction log."""

    async def take(
        self, model: str, version: int, by: Override, carry_out: CarryOut
    ) -> RolloutView:
        """Carry an order out and return how the rollout stands then."""
        async with self.begin() as tx:
            await tx.hold(model)
            rollout = await tx.rollout(model, version)
            if rollout is None:
                raise not_found(f"rollout of {model}@{version}")
            moment = await tx.moment(model, self.now(), self.partitions)
            await carry_out(tx, rollout, by, moment)
            after = await tx.rollout(model, version)
        self.changes.notify()
        return view(after or rollout)


async def abort(tx: DeployerTx, rollout: StoredRollout, by: Override, moment: Moment) -> None:
    """Take a version back that is under way."""
    _under_way(rollout)
    decision = Abort(State(Stage.ABORTED, rollout.state.step), by.reason)
    await tx.take(rollout, decision, {}, moment, by=by)


async def promote(tx: DeployerTx, rollout: StoredRollout, by: Override, moment: Moment) -> None:
    """Let a warm version answer alone."""
    _routed(rollout)
    await tx.take(rollout, Advance(State(Stage.COMPLETED)), {}, moment, by=by)


async def pause(tx: DeployerTx, rollout: StoredRollout, by: Override, moment: Moment) -> None:
    """Hold a version in its step; what must end it still does."""
    _routed(rollout)
    await tx.steer(rollout, Steer.PAUSED, by, moment)


async def resume(tx: DeployerTx, rollout: StoredRollout, by: Override, moment: Moment) -> None:
    """Let a paused version go on."""
    _routed(rollout)
    await tx.steer(rollout, Steer.RESUMED, by, moment)


async def approve(tx: DeployerTx, rollout: StoredRollout, by: Override, moment: Moment) -> None:
    """Let a version answer whose shadow is over and that waits for this."""
    if not rollout.state.awaiting:
        raise Refusal(
            HTTPStatus.CONFLICT,
            "not_awaiting",
            f"{rollout.model}@{rollout.version}: expected a rollout that awaits approval; "
            f"found it {rollout.state.stage}",
        )
    _routed(rollout)
    if rollout.state.paused:
        raise Refusal(
            HTTPStatus.CONFLICT,
            "paused",
            f"{rollout.model}@{rollout.version}: expected a rollout that is not held; "
            "found it paused: resume it first",
        )
    await tx.approve(rollout, by, moment)


async def rollback(
    tx: DeployerTx, rollout: StoredRollout, by: Override, moment: Moment
) -> None:
    """Have the previous champion answer alone again; what is taken back already stays so."""
    if rollout.state.stage in (Stage.ABORTED, Stage.ROLLED_BACK):
        return
    if rollout.state.stage is not Stage.COMPLETED:
        await abort(tx, rollout, by, moment)
        return
    try:
        await tx.roll_back_completed(rollout, by, moment)
    except NothingToReturnToError as error:
        raise Refusal(HTTPStatus.CONFLICT, "nothing_to_return_to", str(error)) from error


def orders(
    begin: Begin[DeployerTx], changes: Changes, now: Callable[[], datetime], partitions: int
) -> APIRouter:
    """Return one route an order, each with its reason in the body."""
    router = APIRouter()
    desk = Desk(begin, changes, now, partitions)
    for carry_out in (abort, promote, pause, resume, approve, rollback):
        _route(router, desk, carry_out)
    return router


def _route(router: APIRouter, desk: Desk, carry_out: CarryOut) -> None:
    name = carry_out.__name__

    @router.post(
        f"/v1/models/{{model}}/rollouts/{{version}}/{name}",
        name=name,
        description=carry_out.__doc__,
    )
    async def ordered(
        model: ModelName, version: VersionNumber, request: Request, caller: Operator
    ) -> RolloutView:
        order = await read_model(request, Order)
        return await desk.take(model, version, Override(caller.name, order.reason), carry_out)


def _under_way(rollout: StoredRollout) -> None:
    if rollout.state.ended:
        raise Refusal(
            HTTPStatus.CONFLICT,
            "not_under_way",
            f"{rollout.model}@{rollout.version}: expected a rollout under way; "
            f"found it {rollout.state.stage}",
        )


def _routed(rollout: StoredRollout) -> None:
    """Refuse a version that is over or still warms up: it has no step to be moved from."""
    if rollout.epoch is None and not rollout.state.ended:
        raise Refusal(
            HTTPStatus.CONFLICT,
            "not_under_way",
            f"{rollout.model}@{rollout.version}: expected a rollout in a step; "
            f"found it {rollout.state.stage}",
        )
    _under_way(rollout)
