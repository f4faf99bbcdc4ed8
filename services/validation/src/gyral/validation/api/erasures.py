"""Routes that have a subject erased and say what it came to."""

import uuid
from datetime import datetime
from http import HTTPStatus
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Header, Query, Request
from pydantic import BaseModel, Field

from gyral.contracts.access import Scope
from gyral.contracts.events import Contract
from gyral.contracts.names import StreamName
from gyral.kit.http import Caller, Refusal, read_model, scope
from gyral.kit.parameters import AfterNumber, Limit
from gyral.kit.personal import PersonalKeys
from gyral.kit.replays import Because
from gyral.validation.domain.erasing import Erasure, Order
from gyral.validation.handlers.erasing import Erasing, NobodysStreamError
from gyral.validation.store.erasures import Erasures

_NAMESPACE = UUID("5a3c1c43-6e0d-5f0b-9d6c-0b3f6b8f2c11")
_MAX_CHARS = 65_536
Reader = Annotated[Caller, scope(Scope.READ)]
Operator = Annotated[Caller, scope(Scope.OPERATE)]


class ErasureAsked(Contract):
    """Whose rows are to go, in the text they came with, and why."""

    subject: str = Field(min_length=1, max_length=_MAX_CHARS)
    because: Because


class ErasureTaken(BaseModel):
    """An order that will be carried out."""

    id: UUID
    stream: str


class ErasureView(BaseModel):
    """An erasure; it is over once `done_at` is there."""

    seq: int
    id: UUID
    stream: str
    subject: str
    """Its pseudonym."""
    actor: str
    because: str
    asked_at: datetime
    done_at: datetime | None
    rows: int
    """Rows that are gone from the table and from all its versions."""
    parked: int
    """Refused rows whose bytes are gone."""
    versions: list[int]
    """Announced versions that held such rows, and hold less than they pinned now."""


def routes(erasing: Erasing, found: Erasures, keys: PersonalKeys) -> APIRouter:
    """Return the routes of erasures."""
    router = APIRouter()

    @router.post("/v1/streams/{stream}/erasures", status_code=HTTPStatus.ACCEPTED)
    async def erase(
        stream: StreamName,
        request: Request,
        caller: Operator,
        idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
    ) -> ErasureTaken:
        """Have all rows of a subject erased that were taken until now; once an idempotency key.

        It goes on in the background: ask for it by its id. Rows of the subject that are sent
        later are new rows.
        """
        asked = await _asked(request)
        subject = keys.pseudonym(asked.subject)
        name = f"{caller.key_id}/{idempotency_key}/{stream}/{subject}"
        order = Order(
            id=uuid.uuid4() if idempotency_key is None else uuid.uuid5(_NAMESPACE, name),
            stream=stream,
            subject=subject,
            actor=f"{caller.name} {caller.key_id}",
            because=asked.because,
            through=await erasing.ends_now(),
        )
        try:
            await erasing.take(order)
        except NobodysStreamError as error:
            raise Refusal(
                HTTPStatus.NOT_FOUND, "not_found", str(error), field="stream"
            ) from error
        return ErasureTaken(id=order.id, stream=stream)

    @router.get("/v1/erasures")
    async def erasures(
        _caller: Reader,
        stream: Annotated[StreamName | None, Query()] = None,
        after: AfterNumber = 0,
        limit: Limit = 100,
    ) -> list[ErasureView]:
        """List erasures, oldest first."""
        return [_view(one) for one in await found.page(stream, after=after, limit=limit)]

    @router.get("/v1/erasures/{erasure_id}")
    async def erasure(erasure_id: UUID, _caller: Reader) -> ErasureView:
        """Show one erasure and which versions it took from."""
        one = await found.find(erasure_id)
        if one is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "not_found",
                f"erasure: expected one that was asked for; found none with id {erasure_id}",
            )
        return _view(one)

    return router


async def _asked(request: Request) -> ErasureAsked:
    """Return what is asked; a refusal repeats nothing of it."""
    try:
        return await read_model(request, ErasureAsked)
    except Refusal as refused:
        status, code = refused.status, refused.code
    message = (
        f'body: expected {{"subject": text of 1 to {_MAX_CHARS} characters, "because": text of '
        "1 to 500}. What was found is not shown: it may be personal"
    )
    raise Refusal(status, code, message, field="body")


def _view(one: Erasure) -> ErasureView:
    return ErasureView(
        seq=one.seq,
        id=one.id,
        stream=one.stream,
        subject=one.subject,
        actor=one.actor,
        because=one.because,
        asked_at=one.asked_at,
        done_at=one.done_at,
        rows=one.rows,
        parked=one.parked,
        versions=list(one.versions),
    )
