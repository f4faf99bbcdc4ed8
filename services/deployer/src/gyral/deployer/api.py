"""The deployer's HTTP routes: rollouts, routes, and how far predictions were counted."""

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime

from gyral.contracts.access import Scope
from gyral.contracts.deployment import RouteChanged
from gyral.contracts.events import Contract
from gyral.contracts.names import Reason
from gyral.deployer.domain import rollouts as machine
from gyral.deployer.domain.rollouts import Abort, Advance, Stage, State
from gyral.deployer.store import DeployerTx
from gyral.deployer.store.rollouts import StoredRollout
from gyral.deployer.store.transitions import Moment, Override
from gyral.kit.access import Caller
from gyral.kit.changes import MAX_WAIT_S, Changes
from gyral.kit.http import read_model, scope
from gyral.kit.refusals import Refusal
from gyral.kit.tx import Begin

Reader = Annotated[Caller, scope(Scope.READ)]
Operator = Annotated[Caller, scope(Scope.OPERATE)]
WaitS = Annotated[float, Query(ge=0, le=MAX_WAIT_S)]


class RolloutView(Contract):
    """One version's way to serving, as far as it has come."""

    model: str
    version: int
    stage: str
    step: int
    weight: int
    epoch: int | None
    previous: int | None
    reason: str | None
    bento: str | None


class Progress(Contract):
    """How far a model's predictions were counted, and what is under way."""

    model: str
    watermark: AwareDatetime | None
    epoch: int | None
    rollout: RolloutView | None


class Order(Contract):
    """An operator's word on a rollout."""

    reason: Reason


def views(begin: Begin[DeployerTx], changes: Changes, partitions: int) -> APIRouter:
    """Return the routes that tell; `partitions` of the prediction log make up a watermark."""
    router = APIRouter()

    @router.get("/v1/models/{model}/rollouts")
    async def rollouts(model: str, _caller: Reader) -> list[RolloutView]:
        async with begin() as tx:
            return [_view(rollout) for rollout in await tx.rollouts(model)]

    @router.get("/v1/models/{model}/rollouts/{version}")
    async def rollout(
        model: str, version: int, _caller: Reader, wait_s: WaitS = 0
    ) -> RolloutView:
        async def found() -> StoredRollout | None:
            async with begin() as tx:
                return await tx.rollout(model, version)

        async def begun() -> bool:
            seen = await found()
            return seen is not None and seen.state.stage is not Stage.WARMING

        await changes.wait_until(begun, wait_s)
        seen = await found()
        if seen is None:
            raise _not_found(f"rollout of {model}@{version}")
        return _view(seen)

    @router.get("/v1/models/{model}/route")
    async def route(model: str, _caller: Reader) -> RouteChanged:
        async with begin() as tx:
            latest = await tx.route(model)
        if latest is None:
            raise _not_found(f"route of {model}")
        return latest

    @router.get("/v1/models/{model}/progress")
    async def progress(
        model: str, _caller: Reader, watermark: AwareDatetime | None = None, wait_s: WaitS = 0
    ) -> Progress:
        async def counted() -> bool:
            async with begin() as tx:
                reached = await tx.watermark(model, partitions)
            return watermark is None or (reached is not None and reached >= watermark)

        await changes.wait_until(counted, wait_s)
        async with begin() as tx:
            running = await tx.in_flight(model)
            latest = await tx.route(model)
            return Progress(
                model=model,
                watermark=await tx.watermark(model, partitions),
                epoch=latest.epoch if latest else None,
                rollout=_view(running) if running else None,
            )

    return router


def orders(
    begin: Begin[DeployerTx], changes: Changes, now: Callable[[], datetime], partitions: int
) -> APIRouter:
    """Return the routes by which an operator ends a rollout, one way or the other."""
    router = APIRouter()

    async def ordered(
        model: str,
        version: int,
        reason: str,
        actor: str,
        decide: Callable[[StoredRollout], Advance | Abort],
    ) -> RolloutView:
        async with begin() as tx:
            await tx.hold(model)
            running = await tx.rollout(model, version)
            if running is None:
                raise _not_found(f"rollout of {model}@{version}")
            if running.state.ended or running.epoch is None:
                raise Refusal(
                    HTTPStatus.CONFLICT,
                    "not_under_way",
                    f"{model}@{version}: expected a rollout under way; "
                    f"found it {running.state.stage}",
                )
            decision = decide(running)
            moment = Moment(now(), await tx.watermark(model, partitions))
            if isinstance(decision, Abort):
                await tx.abort(running, reason, {}, moment, actor=actor)
            else:
                await tx.take(running, decision, {}, moment, by=Override(actor, reason))
            after = await tx.rollout(model, version)
        changes.notify()
        return _view(after or running)

    @router.post("/v1/models/{model}/rollouts/{version}/abort")
    async def abort(
        model: str, version: int, request: Request, caller: Operator
    ) -> RolloutView:
        order = await read_model(request, Order)
        return await ordered(
            model,
            version,
            order.reason,
            caller.name,
            lambda running: Abort(State(Stage.ABORTED, running.state.step), order.reason),
        )

    @router.post("/v1/models/{model}/rollouts/{version}/promote")
    async def promote(
        model: str, version: int, request: Request, caller: Operator
    ) -> RolloutView:
        order = await read_model(request, Order)
        return await ordered(
            model,
            version,
            order.reason,
            caller.name,
            lambda _running: Advance(State(Stage.COMPLETED)),
        )

    return router


def _view(rollout: StoredRollout) -> RolloutView:
    return RolloutView(
        model=rollout.model,
        version=rollout.version,
        stage=rollout.state.stage,
        step=rollout.state.step,
        weight=machine.weight(rollout.state, rollout.spec.spec.rollout),
        epoch=rollout.epoch,
        previous=rollout.previous,
        reason=rollout.reason,
        bento=rollout.bento_key,
    )


def _not_found(what: str) -> Refusal:
    return Refusal(HTTPStatus.NOT_FOUND, "not_found", f"expected a {what}; found none")
