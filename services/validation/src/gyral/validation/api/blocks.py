"""What came out of blocks of event time, and their release by a person."""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Protocol

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from gyral.contracts.access import Scope
from gyral.contracts.events import Contract
from gyral.contracts.names import StreamName
from gyral.kit.http import Caller, Refusal, read_model, scope
from gyral.kit.replays import Because
from gyral.validation.domain.watermark import time_of
from gyral.validation.handlers.releasing import MOST, UnknownStreamError
from gyral.validation.store.block_listings import BlockListings, JudgedBlock


class Shown(StrEnum):
    """Which blocks to list."""

    ALL = "all"
    HELD = "held"
    """Those that failed, block and were not released."""


class Block(BaseModel):
    """One expectation's outcome in one block of event time."""

    id: int
    stream: str
    expectation: str
    kind: str
    field: str | None
    severity: str
    start: datetime
    end: datetime
    rows: int
    measured: float | None
    expected: str
    outcome: str
    judged_at: datetime
    released_at: datetime | None
    released_by: str | None
    release_reason: str | None


class ReleaseAsked(Contract):
    """Which failed blocks shall count as passed, and why; ids None means all."""

    ids: tuple[Annotated[int, Field(ge=1, lt=2**62)], ...] | None = Field(
        default=None, min_length=1, max_length=MOST
    )
    because: Because


class Released(BaseModel):
    """Which blocks count as passed now; without ids, ask again while there are any."""

    released: int
    ids: list[int]


class Releasing(Protocol):
    """Releases blocks."""

    async def __call__(
        self, stream: str, ids: Sequence[int] | None, *, actor: str, reason: str
    ) -> list[int]:
        """Return the ids of those that were released."""


def routes(found: BlockListings, release: Releasing) -> APIRouter:
    """Return the routes of judged blocks."""
    router = APIRouter()

    @router.get("/v1/streams/{stream}/blocks")
    async def blocks(
        stream: StreamName,
        _caller: Annotated[Caller, scope(Scope.READ)],
        state: Shown = Shown.ALL,
        after: Annotated[int, Query(ge=0, lt=2**62)] = 0,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> list[Block]:
        """List judged blocks in the order of judgement."""
        held = state is Shown.HELD
        page = await found.blocks(stream, held=held, after=after, limit=limit)
        return [_block(row) for row in page]

    @router.post("/v1/streams/{stream}/blocks/release")
    async def release_blocks(
        stream: StreamName, request: Request, caller: Annotated[Caller, scope(Scope.OPERATE)]
    ) -> Released:
        """Let failed blocks count as passed, each once; at most 1,000 of them a call."""
        asked = await read_model(request, ReleaseAsked)
        actor = f"{caller.name} {caller.key_id}"
        try:
            ids = await release(stream, asked.ids, actor=actor, reason=asked.because)
        except UnknownStreamError as error:
            raise Refusal(HTTPStatus.NOT_FOUND, "not_found", str(error)) from error
        return Released(released=len(ids), ids=ids)

    return router


def _block(row: JudgedBlock) -> Block:
    return Block(
        id=row.id,
        stream=row.stream,
        expectation=row.expectation,
        kind=row.kind,
        field=row.field,
        severity=row.severity,
        start=time_of(row.start_us),
        end=time_of(row.end_us),
        rows=row.rows,
        measured=row.measured,
        expected=row.expected,
        outcome=row.outcome,
        judged_at=row.judged_at,
        released_at=row.released_at,
        released_by=row.released_by,
        release_reason=row.release_reason,
    )
