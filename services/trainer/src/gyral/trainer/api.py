"""HTTP of the trainer: what became of requests, how runs stand, and stopping one."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from gyral.contracts.events import Contract
from gyral.contracts.names import ModelName, Reason, Uuid
from gyral.contracts.training import Cause, RunSucceeded
from gyral.kit.changes import Changes
from gyral.kit.http import Caller, Refusal, read_model, scope
from gyral.kit.parameters import AfterId, Limit, WaitS
from gyral.kit.tx import Begin
from gyral.trainer.domain.runs import OPEN, IllegalMoveError, State
from gyral.trainer.handlers import Handlers
from gyral.trainer.store import Run, TrainerTx

_UNSETTLED = ("pending", "admitted")


class RequestView(BaseModel):
    """What became of a request for training."""

    request_id: str
    outcome: str
    """pending, suppressed, admitted, succeeded, failed or cancelled."""
    reason: str | None = None
    run_id: str | None = None
    model: str | None = None


class RunView(BaseModel):
    """A run as it stands."""

    run_id: str
    request_id: str
    model: str
    cause: Cause
    as_of: datetime
    spec_generation: int
    state: State
    in_flight: bool
    attempt: int
    stage: str
    share: float
    reason: str | None
    created_at: datetime
    ended_at: datetime | None
    result: RunSucceeded | None


class Cancellation(Contract):
    """Why a run is stopped."""

    reason: Reason = Field(default="cancelled by an operator")


def routes(begin: Begin[TrainerTx], handlers: Handlers, changes: Changes) -> APIRouter:
    """Return the trainer's routes."""
    router = APIRouter()

    @router.get("/v1/requests/{request_id}")
    async def request(
        request_id: Uuid, _caller: Annotated[Caller, scope("read")], wait_s: WaitS = 0
    ) -> RequestView:
        """Say what became of a request, waiting until its run is over."""
        view = RequestView(request_id=request_id, outcome="pending")

        async def settled() -> bool:
            nonlocal view
            view = await _request(begin, request_id)
            return view.outcome not in _UNSETTLED

        await changes.wait_until(settled, wait_s)
        return view

    @router.get("/v1/runs")
    async def all_runs(
        _caller: Annotated[Caller, scope("read")],
        model: ModelName | None = None,
        after: AfterId = None,
        limit: Limit = 100,
    ) -> list[RunView]:
        """List runs, newest first."""
        async with begin() as tx:
            return [_view(run) for run in await tx.runs(model, after=after, limit=limit)]

    @router.get("/v1/runs/{run_id}")
    async def one_run(run_id: Uuid, _caller: Annotated[Caller, scope("read")]) -> RunView:
        """Show one run."""
        async with begin() as tx:
            return _view(_found(await tx.run(run_id), run_id))

    @router.post("/v1/runs/{run_id}/cancel")
    async def cancel(
        run_id: Uuid, request: Request, caller: Annotated[Caller, scope("operate")]
    ) -> RunView:
        """Stop a run that is not over."""
        asked = await read_model(request, Cancellation)
        try:
            run = await handlers.cancel(run_id, actor=caller.name, reason=asked.reason)
        except IllegalMoveError as error:
            raise Refusal(409, "run_over", str(error)) from error
        return _view(_found(run, run_id))

    return router


async def _request(begin: Begin[TrainerTx], request_id: str) -> RequestView:
    async with begin() as tx:
        decided = await tx.decided(request_id)
        run = await tx.run(decided.run_id) if decided and decided.run_id else None
    if decided is None:
        return RequestView(request_id=request_id, outcome="pending")
    if run is None:
        return RequestView(
            request_id=request_id,
            outcome="suppressed",
            reason=f"{decided.why}: {decided.detail}",
            model=decided.model,
        )
    return RequestView(
        request_id=request_id,
        outcome="admitted" if run.state in OPEN else run.state,
        reason=run.reason,
        run_id=run.run_id,
        model=run.model,
    )


def _found(run: Run | None, run_id: str) -> Run:
    if run is None:
        raise Refusal(404, "no_such_run", f"run {run_id}: expected an admitted run; found none")
    return run


def _view(run: Run) -> RunView:
    return RunView(
        run_id=run.run_id,
        request_id=run.request_id,
        model=run.model,
        cause=run.cause,
        as_of=run.as_of,
        spec_generation=run.declared.generation,
        state=run.state,
        in_flight=run.in_flight,
        attempt=run.attempt,
        stage=run.stage,
        share=run.share,
        reason=run.reason,
        created_at=run.created_at,
        ended_at=run.ended_at,
        result=None if run.result is None else RunSucceeded.model_validate_json(run.result),
    )
