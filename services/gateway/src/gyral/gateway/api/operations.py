"""What those who run replays and rollouts ask of the gateway."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict

from gyral.contracts.access import Scope
from gyral.contracts.data import WatermarkAdvanced
from gyral.contracts.deployment import RouteChanged
from gyral.gateway.api.shadows import Shadows
from gyral.gateway.domain.routing import RouteTable
from gyral.gateway.store.kinds import Kind
from gyral.kit.access import Caller
from gyral.kit.changes import Changes
from gyral.kit.http import read_model, scope
from gyral.kit.journal import Journal, JournalBrokenError, JournalFullError
from gyral.kit.refusals import Refusal
from gyral.kit.segments import Entry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WatermarkRequest(BaseModel):
    """Up to which event time predictions were asked for."""

    model_config = ConfigDict(extra="forbid")

    event_time: AwareDatetime


@dataclass(frozen=True, slots=True)
class Operations:
    """Markers and routes."""

    table: RouteTable
    journal: Journal
    shadows: Shadows
    changes: Changes
    now_us: Callable[[], int]
    latest_us: Callable[[], int]
    """The latest event time that may be marked now."""

    async def mark(self, model: str, event_time: datetime) -> None:
        """Put a marker behind everything answered so far, shadow answers included.

        Raises:
            Refusal: 404 no such model, 422 a time that has not come yet or lies before 1970,
                503 the journal is full or broken.
        """
        if self.table.get(model) is None:
            raise _unknown(model)
        latest = _EPOCH + timedelta(microseconds=self.latest_us())
        if not _EPOCH <= event_time <= latest:
            raise Refusal(
                422,
                "invalid",
                f"event_time: expected a time from 1970 to {latest.isoformat()}, a little after"
                f" now; found {event_time.isoformat()}",
                field="event_time",
            )
        await self.shadows.settled(model)
        marker = WatermarkAdvanced(subject=model, event_time=event_time)
        payload = marker.model_dump_json().encode()
        try:
            await self.journal.append(
                Entry(Kind.MARKER, str(uuid.uuid4()), self.now_us(), payload)
            )
        except (JournalFullError, JournalBrokenError) as error:
            raise Refusal(503, "journal", str(error), retry_after_s=1) from error

    async def route(self, model: str, epoch: int, wait_s: float) -> RouteChanged:
        """Return the route once it has this epoch, or as it is when the time is over."""
        await self.changes.wait_until(lambda: self._epoch(model) >= epoch, wait_s)
        plan = self.table.get(model)
        if plan is None:
            raise _unknown(model)
        return plan.route

    def _epoch(self, model: str) -> int:
        plan = self.table.get(model)
        return plan.route.epoch if plan else 0


def create_router(operations: Operations) -> APIRouter:
    """Return the gateway's routes outside the inference protocol."""
    router = APIRouter(prefix="/v1/models/{model}")

    @router.post("/watermark", status_code=202)
    async def watermark(
        model: str, request: Request, _caller: Annotated[Caller, scope(Scope.INGEST)]
    ) -> dict[str, str]:
        """Say that no earlier event will be predicted any more."""
        asked = await read_model(request, WatermarkRequest, max_bytes=1 << 12)
        await operations.mark(model, asked.event_time)
        return {"event_time": asked.event_time.isoformat()}

    @router.get("/route")
    async def route(
        model: str,
        _caller: Annotated[Caller, scope(Scope.READ)],
        epoch: Annotated[int, Query(ge=0)] = 0,
        wait_s: Annotated[float, Query(ge=0, le=20)] = 0,
    ) -> dict[str, object]:
        """Return which versions answer, from an epoch on if asked."""
        current = await operations.route(model, epoch, wait_s)
        versions = [
            {
                "version": share.version,
                "weight": share.weight,
                "shadow": share.shadow,
                "sha256": share.sha256,
            }
            for share in current.shares
        ]
        return {"model": model, "epoch": current.epoch, "versions": versions}

    return router


def _unknown(model: str) -> Refusal:
    return Refusal(
        404, "unknown_model", f"{model[:80]}: expected a model with a route; found none"
    )
