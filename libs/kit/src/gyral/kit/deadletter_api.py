"""Routes for a service's dead letters: list, show, and have them handled after all."""

import base64
import uuid
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Self

from fastapi import APIRouter, Header, Request
from pydantic import BaseModel, Field, model_validator

from gyral.contracts.access import Scope
from gyral.contracts.events import Contract
from gyral.kit.access import Caller
from gyral.kit.db import Pool
from gyral.kit.deadletters import DeadLetterReason
from gyral.kit.http import read_model, scope
from gyral.kit.letterbox import MOST, Chosen, Letter, Letterbox, LetterTx, Original, State
from gyral.kit.parameters import AfterNumber, Instant, Limit
from gyral.kit.refusals import Refusal
from gyral.kit.replays import Because, order_of
from gyral.kit.tx import begin

Reader = Annotated[Caller, scope(Scope.READ)]
TopicName = Annotated[str, Field(max_length=249, pattern=r"^[A-Za-z0-9._-]+$")]
IdempotencyKey = Annotated[str | None, Header(alias="idempotency-key", max_length=200)]


class LetterHeader(BaseModel):
    """One header of the record; a null header has no value."""

    name: str
    value_base64: str | None


@dataclass(frozen=True, slots=True)
class WholeLetter(Letter):
    """A dead letter with the record as it came."""

    key_base64: str | None
    headers: list[LetterHeader]
    value_base64: str | None


class LetterReplayAsked(Contract):
    """Which parked letters to put back, and why; at least one of topic, reason and ids."""

    topic: TopicName | None = None
    reason: DeadLetterReason | None = None
    ids: tuple[uuid.UUID, ...] | None = Field(default=None, min_length=1, max_length=MOST)
    before: Instant | None = None
    """Only what was parked before; the answer to the first order says what to give here."""
    because: Because

    @model_validator(mode="after")
    def _something_is_chosen(self) -> Self:
        if self.topic is None and self.reason is None and self.ids is None:
            raise ValueError("expected a topic, a reason or ids; found none of them")
        return self


class LettersReplayed(BaseModel):
    """What an order came to; ask again, with its `before`, while any were put back.

    What is refused again is parked after `before`, and so is left where it is.
    """

    replay_id: uuid.UUID
    replayed: tuple[str, ...]
    handled: tuple[str, ...]
    """Letters whose events were handled since by another delivery."""
    before: datetime


def routes(pool: Pool, service: str) -> APIRouter:
    """Return the routes of a service that handles control events."""
    router = APIRouter()
    box = Letterbox(pool, begin(pool, LetterTx, service=service))

    @router.get("/v1/dead-letters")
    async def letters(
        _caller: Reader,
        topic: TopicName | None = None,
        reason: DeadLetterReason | None = None,
        state: State | None = None,
        after: AfterNumber = 0,
        limit: Limit = 100,
    ) -> list[Letter]:
        """List events this service parked, oldest first."""
        chosen = Chosen(topic, reason)
        return await box.page(chosen, state=state, after=after, limit=limit)

    @router.get("/v1/dead-letters/{letter_id}")
    async def letter(letter_id: uuid.UUID, _caller: Reader) -> WholeLetter:
        """Show one letter with its headers and bytes."""
        found = await box.find(letter_id)
        if found is None:
            raise Refusal(
                HTTPStatus.NOT_FOUND,
                "not_found",
                f"dead letter: expected one of {service}'s; found none with id {letter_id}",
            )
        return _whole(*found)

    @router.post("/v1/dead-letters/replay", status_code=HTTPStatus.ACCEPTED)
    async def replay(
        request: Request,
        caller: Annotated[Caller, scope(Scope.OPERATE)],
        idempotency_key: IdempotencyKey = None,
    ) -> LettersReplayed:
        """Put parked letters back on their topics, each once, with an entry in the audit."""
        asked = await read_model(request, LetterReplayAsked)
        order = order_of(caller, asked, asked.because, idempotency_key=idempotency_key)
        chosen = Chosen(asked.topic, asked.reason, asked.ids, asked.before)
        begun, done = await box.put_back(chosen, order)
        return LettersReplayed(
            replay_id=order.id,
            replayed=done.replayed,
            handled=done.handled,
            before=asked.before or begun.at,
        )

    return router


def _whole(letter: Letter, original: Original) -> WholeLetter:
    return WholeLetter(
        **asdict(letter),
        key_base64=_base64(original.key),
        headers=_headers(original.headers),
        value_base64=_base64(original.value),
    )


def _headers(pairs: Sequence[tuple[str, bytes | None]]) -> list[LetterHeader]:
    return [LetterHeader(name=name, value_base64=_base64(value)) for name, value in pairs]


def _base64(value: bytes | None) -> str | None:
    return None if value is None else base64.b64encode(value).decode()
