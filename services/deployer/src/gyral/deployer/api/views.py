"""How things stand: rollouts, routes, and how far predictions were counted."""

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime

from gyral.contracts.access import Scope
from gyral.contracts.deployment import RouteChanged
from gyral.contracts.events import Contract
from gyral.contracts.names import ModelName
from gyral.deployer.domain import rollouts as machine
from gyral.deployer.domain.rollouts import Stage
from gyral.deployer.store import DeployerTx
from gyral.deployer.store.rollouts import StoredRollout
from gyral.kit.access import Caller
from gyral.kit.changes import Changes
from gyral.kit.http import scope
from gyral.kit.parameters import AfterVersion, Limit, VersionNumber, WaitS
from gyral.kit.refusals import Refusal
from gyral.kit.tx import Begin

Reader = Annotated[Caller, scope(Scope.READ)]


class RolloutView(Contract):
    """One version's way to serving, as far as it has come."""

    model: str
    version: int
    stage: str
    step: int
    weight: int
    epoch: int | None
    previous: int | None
    paused: bool
    awaiting_approval: bool
    actor: str | None
    """Who decided last by hand; None: the deployer, by its rules."""
    reason: str | None
    bento: str | None
    measured: dict[str, float | int | None]
    """What the step came to when it was judged last."""


class Progress(Contract):
    """How far a model's predictions were counted, and what is under way."""

    model: str
    watermark: AwareDatetime | None
    epoch: int | None
    rollout: RolloutView | None


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
        return [view(rollout) for rollout in found]

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
            raise not_found(f"rollout of {model}@{version}")
        return view(seen)

    @router.get("/v1/models/{model}/route")
    async def route(model: ModelName, _caller: Reader) -> RouteChanged:
        async with begin() as tx:
            latest = await tx.route(model)
        if latest is None:
            raise not_found(f"route of {model}")
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
                rollout=view(running) if running else None,
            )

    return router


def view(rollout: StoredRollout) -> RolloutView:
    """Return what is told of a rollout."""
    return RolloutView(
        model=rollout.model,
        version=rollout.version,
        stage=rollout.state.stage,
        step=rollout.state.step,
        weight=machine.weight(rollout.state, rollout.spec.spec.rollout),
        epoch=rollout.epoch,
        previous=rollout.previous,
        paused=rollout.state.paused,
        awaiting_approval=rollout.state.awaiting,
        actor=rollout.actor,
        reason=rollout.reason,
        bento=rollout.bento_key,
        measured=dict(rollout.measured),
    )


def not_found(what: str) -> Refusal:
    """Return the refusal of a thing that is not there."""
    return Refusal(HTTPStatus.NOT_FOUND, "not_found", f"expected a {what}; found none")
