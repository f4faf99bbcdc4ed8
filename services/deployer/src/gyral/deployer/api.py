"""The deployer's HTTP routes: rollouts, routes, and how far predictions were counted."""

from collections.abc import Callable
from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import AwareDatetime

from gyral.contracts.access import Scope
from gyral.contracts.deployment import RouteChanged
from gyral.contracts.events import Contract
from gyral.contracts.names import ModelName, Reason
from gyral.deployer.domain import rollouts as machine
from gyral.deployer.domain.rollouts import Abort, Advance, Stage, State
from gyral.deployer.store import DeployerTx
from gyral.deployer.store.rollouts import StoredRollout
from gyral.deployer.store.transitions import Override
from gyral.kit.access import Caller
from gyral.kit.changes import Changes
from gyral.kit.http import read_model, scope
from gyral.kit.parameters import AfterVersion, Limit, VersionNumber, WaitS
from gyral.kit.refusals import Refusal
from gyral.kit.tx import Begin

Reader = Annotated[Caller, scope(Scope.READ)]
Operator = Annotated[Caller, scope(Scope.OPERATE)]


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
    async def rollouts(
        model: ModelName, _caller: Reader, after: AfterVersion = None, limit: Limit = 100
    ) -> list[RolloutView]:
        """List a model's rollouts, newest version first."""
        async with begin() as tx:
            found = await tx.rollouts(model, after=after, limit=limit)
        return [_view(rollout) for rollout in found]

    @router.get("/v1/models/{model}/rollouts/{version}")
    async def rollout(
        model: ModelName, version: VersionNumber, _caller: Reader, wait_s: WaitS = 0
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
    async def route(model: ModelName, _caller: Reader) -> RouteChanged:
        async with begin() as tx:
            latest = await tx.route(model)
        if latest is None:
            raise _not_found(f"route of {model}")
        return latest

    @router.get("/v1/models/{model}/progress")
    async def progress(
        model: ModelName,
        _caller: Reader,
        watermark: AwareDatetime | None = None,
        wait_s: WaitS = 0,
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
        by: Override,
        decide: Callable[[StoredRollout, str], Advance | Abort],
    ) -> RolloutView:
        async with begin() as tx:
            await tx.hold(model)
            running = await tx.rollout(model, version)
            if running is None:
                raise _not_found(f"rollout of {model}@{version}")
            decision = decide(running, by.reason)
            warming = isinstance(decision, Advance) and running.epoch is None
            if running.state.ended or warming:
                raise Refusal(
                    HTTPStatus.CONFLICT,
                    "not_under_way",
                    f"{model}@{version}: expected a rollout under way; "
                    f"found it {running.state.stage}",
                )
            moment = await tx.moment(model, now(), partitions)
            await tx.take(running, decision, {}, moment, by=by)
            after = await tx.rollout(model, version)
        changes.notify()
        return _view(after or running)

    @router.post("/v1/models/{model}/rollouts/{version}/abort")
    async def abort(
        model: ModelName, version: VersionNumber, request: Request, caller: Operator
    ) -> RolloutView:
        """Take a version back."""
        order = await read_model(request, Order)
        return await ordered(model, version, Override(caller.name, order.reason), _taken_back)

    @router.post("/v1/models/{model}/rollouts/{version}/promote")
    async def promote(
        model: ModelName, version: VersionNumber, request: Request, caller: Operator
    ) -> RolloutView:
        """Let a warm version answer alone."""
        order = await read_model(request, Order)
        return await ordered(model, version, Override(caller.name, order.reason), _promoted)

    return router


def _taken_back(running: StoredRollout, reason: str) -> Abort:
    return Abort(State(Stage.ABORTED, running.state.step), reason)


def _promoted(_running: StoredRollout, _reason: str) -> Advance:
    return Advance(State(Stage.COMPLETED))


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
