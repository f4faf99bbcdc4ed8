"""The monitor's HTTP routes: how far models are measured, their windows and their alarms."""

from datetime import datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime

from gyral.contracts.access import Scope
from gyral.contracts.events import Contract
from gyral.contracts.names import ModelName
from gyral.contracts.training import Cause
from gyral.kit.access import Caller
from gyral.kit.changes import Changes
from gyral.kit.http import scope
from gyral.kit.parameters import AfterTime, Limit, WaitS
from gyral.kit.refusals import Refusal
from gyral.kit.tx import Begin
from gyral.monitor.domain.watches import Watch, to_datetime, to_micros
from gyral.monitor.store import MonitorTx
from gyral.monitor.store.specs import Specs

Reader = Annotated[Caller, scope(Scope.READ)]
_BEFORE_ALL_US = -1


class RequestView(Contract):
    """A training that was asked for, and why."""

    request_id: str
    as_of: AwareDatetime
    cause: Cause
    evidence: dict[str, float | int | str | None]


class Progress(Contract):
    """The event time up to which a model is measured, and what was asked for so far."""

    model: str
    measured_until: AwareDatetime | None
    requests: list[RequestView]


class WindowView(Contract):
    """One closed block of the version that was champion then."""

    window_start: AwareDatetime
    window_end: AwareDatetime
    version: int
    rows: int
    labelled_rows: int
    measures: dict[str, float | None]
    worst_feature: str | None


class AlarmView(Contract):
    """One detector's alarm at one block; of drift, a warning."""

    window_start: AwareDatetime
    detector: str
    version: int
    measured: float
    threshold: float
    feature: str | None
    request_id: str | None


def routes(begin: Begin[MonitorTx], specs: Specs, changes: Changes) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    async def watched(model: str) -> Watch:
        if specs.watch(model) is None:
            await specs.refresh()
        watch = specs.watch(model)
        if watch is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND, "not_found", "expected a declared model; found none"
            )
        return watch

    async def measured_until(watch: Watch) -> datetime | None:
        async with begin() as tx:
            predicted, labelled = await tx.watermarks_of(watch)
        if predicted is None or labelled is None:
            return None
        return to_datetime(min(predicted, labelled))

    @router.get("/v1/models/{model}/progress")
    async def progress(
        model: ModelName,
        _caller: Reader,
        watermark: AwareDatetime | None = None,
        after: AwareDatetime | None = None,
        limit: Limit = 100,
        wait_s: WaitS = 0,
    ) -> Progress:
        watch = await watched(model)

        async def measured() -> bool:
            reached = await measured_until(watch)
            return watermark is None or (reached is not None and reached >= watermark)

        await changes.wait_until(measured, wait_s)
        reached = await measured_until(watch)
        async with begin() as tx:
            requests = await tx.requests(model, _micros(after), limit)
        return Progress(
            model=model,
            measured_until=reached,
            requests=[
                RequestView(
                    request_id=it.request_id,
                    as_of=to_datetime(it.as_of_us),
                    cause=it.cause,
                    evidence=dict(it.evidence),
                )
                for it in requests
            ],
        )

    @router.get("/v1/models/{model}/windows")
    async def windows(
        model: ModelName, _caller: Reader, after: AfterTime = None, limit: Limit = 100
    ) -> list[WindowView]:
        """List closed blocks by their starts, oldest first."""
        async with begin() as tx:
            found = await tx.windows(model, _micros(after), limit)
        return [
            WindowView(
                window_start=to_datetime(it.start_us),
                window_end=to_datetime(it.end_us),
                version=it.version,
                rows=it.rows,
                labelled_rows=it.labelled_rows,
                measures=dict(it.measures),
                worst_feature=it.worst_feature,
            )
            for it in found
        ]

    @router.get("/v1/models/{model}/alarms")
    async def alarms(
        model: ModelName, _caller: Reader, after: AfterTime = None, limit: Limit = 100
    ) -> list[AlarmView]:
        """List alarms by their blocks' starts, newest first; no page ends within a block."""
        before_us = None if after is None else to_micros(after)
        async with begin() as tx:
            found = await tx.alarms(model, before_us, limit)
        return [
            AlarmView(
                window_start=to_datetime(it.start_us),
                detector=it.detector,
                version=it.version,
                measured=it.measured,
                threshold=it.threshold,
                feature=it.feature,
                request_id=it.request_id,
            )
            for it in found
        ]

    return router


def _micros(after: datetime | None) -> int:
    return _BEFORE_ALL_US if after is None else to_micros(after)
