"""Routes for refused rows: list, show, export, and have them judged again."""

import base64
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Self
from uuid import UUID

import orjson
from fastapi import APIRouter, Depends, Header, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, model_validator

from gyral.contracts.access import Scope
from gyral.contracts.events import Contract
from gyral.kit.http import Caller, Refusal, ScopeRequired, read_model, scope
from gyral.kit.parameters import AfterNumber, Instant, Limit
from gyral.kit.replays import Because, Begun, ReplayOrder, order_of
from gyral.validation.api.progress import NO_NUL
from gyral.validation.engine.parking import Parking
from gyral.validation.handlers.replay import MOST
from gyral.validation.store import quarantine
from gyral.validation.store.quarantine import Chosen, Quarantine, Refused, State

NDJSON = "application/x-ndjson"
Replay = Callable[[Chosen, ReplayOrder], Awaitable[tuple[Begun, list[int]]]]
Reader = Annotated[Caller, scope(Scope.READ)]
Whole = Sequence[quarantine.Whole]
_may_open = ScopeRequired(Scope.OPERATE)
Id = Annotated[int, Field(ge=1, lt=2**62)]
StreamText = Annotated[str, Field(max_length=256, pattern=NO_NUL)]
ReasonCode = Annotated[str, Field(max_length=64, pattern=r"^[a-z_]+$")]


class RefusedHeader(BaseModel):
    """One header of the record."""

    name: str
    value_base64: str


@dataclass(frozen=True, slots=True)
class RefusedBytes(Refused):
    """A row in quarantine with its bytes as they came."""

    key_base64: str | None
    value_base64: str


@dataclass(frozen=True, slots=True)
class WholeRefused(RefusedBytes):
    """A row in quarantine with everything that came with it."""

    headers: list[RefusedHeader]


class ReplayAsked(Contract):
    """Which held rows to judge again, and why; at least one of the first four."""

    stream: StreamText | None = None
    reason: ReasonCode | None = None
    since: Instant | None = None
    ids: tuple[Id, ...] | None = Field(default=None, min_length=1, max_length=MOST)
    before: Instant | None = None
    """Only what was refused before; the answer to the first order says what to give here."""
    because: Because

    @model_validator(mode="after")
    def _something_is_chosen(self) -> Self:
        if all(each is None for each in (self.stream, self.reason, self.since, self.ids)):
            raise ValueError("expected a stream, a reason, since or ids; found none of them")
        return self


class Replayed(BaseModel):
    """Which rows went back; ask again, with its `before`, while there are any.

    What is refused again is refused after `before`, and so is left where it is.
    """

    replay_id: UUID
    replayed: int
    ids: list[int]
    before: datetime


def _chosen(
    stream: Annotated[StreamText | None, Query()] = None,
    reason: Annotated[ReasonCode | None, Query()] = None,
    since: Annotated[Instant | None, Query()] = None,
    state: Annotated[State | None, Query()] = None,
) -> Chosen:
    return Chosen(stream=stream, reason=reason, since=since, state=state)


ChosenQuery = Annotated[Chosen, Depends(_chosen)]


def routes(found: Quarantine, replay: Replay, parking: Parking) -> APIRouter:
    """Return the quarantine's routes."""
    router = APIRouter()

    async def opened(request: Request, page: Whole) -> Whole:
        """Decrypt what is encrypted, for whoever may operate."""
        if any(row.protection is not None for row, _ in page):
            await _may_open(request)
        return [(row, _plain(original, row, parking)) for row, original in page]

    @router.get("/v1/quarantine")
    async def rows(
        _caller: Reader, chosen: ChosenQuery, after: AfterNumber = 0, limit: Limit = 100
    ) -> list[Refused]:
        """List refused rows without their bytes, oldest first."""
        return await found.page(chosen, after=after, limit=limit)

    @router.get(
        "/v1/quarantine/export",
        response_class=StreamingResponse,
        responses={200: {"content": {NDJSON: {"schema": {"type": "string"}}}}},
    )
    async def export(
        request: Request,
        _caller: Reader,
        chosen: ChosenQuery,
        after: AfterNumber = 0,
        limit: Limit = 1000,
    ) -> StreamingResponse:
        """Give refused rows with their bytes, a JSON object a line, at most 8 MiB of bytes.

        The next page begins after the last line's id; an empty page is the end. Rows that are
        kept encrypted are for callers who may operate.
        """
        page = await opened(request, await found.export(chosen, after=after, limit=limit))
        return StreamingResponse(_lines(page), media_type=NDJSON)

    @router.get("/v1/quarantine/{row_id}")
    async def row(
        request: Request, row_id: Annotated[int, Path(ge=1, lt=2**62)], _caller: Reader
    ) -> WholeRefused:
        """Show one refused row with its headers and bytes; an encrypted one to who operates."""
        one = await found.find(row_id)
        if one is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "not_found",
                f"quarantine: expected a refused row; found none with id {row_id}",
            )
        [one] = await opened(request, [one])
        headers = [
            RefusedHeader(name=name, value_base64=_base64(value))
            for name, value in one[1].headers
        ]
        return WholeRefused(**asdict(_bytes(one)), headers=headers)

    @router.post("/v1/quarantine/replay", status_code=HTTPStatus.ACCEPTED)
    async def replay_refused(
        request: Request,
        caller: Annotated[Caller, scope(Scope.OPERATE)],
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> Replayed:
        """Have held rows judged again, each once; at most 1,000 of them a call."""
        asked = await read_model(request, ReplayAsked)
        order = order_of(caller, asked, asked.because, idempotency_key=idempotency_key)
        chosen = Chosen(asked.stream, asked.reason, asked.since, asked.ids, before=asked.before)
        begun, done = await replay(chosen, order)
        return Replayed(
            replay_id=order.id,
            replayed=len(done),
            ids=done,
            before=asked.before or begun.at,
        )

    return router


def _plain(
    original: quarantine.Original, row: Refused, parking: Parking
) -> quarantine.Original:
    """Return a row's bytes as they came; of one that is erased there are none."""
    if row.protection is None or row.erased_at is not None:
        return original
    plain = parking.plain(row.stream, original.place, original.value)
    return replace(original, key=plain.key, value=plain.value, headers=plain.headers)


def _lines(page: Whole) -> Iterator[bytes]:
    for one in page:
        yield orjson.dumps(_bytes(one), option=orjson.OPT_APPEND_NEWLINE)


def _bytes(one: quarantine.Whole) -> RefusedBytes:
    row, original = one
    return RefusedBytes(
        **asdict(row),
        key_base64=None if original.key is None else _base64(original.key),
        value_base64=_base64(original.value),
    )


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()
