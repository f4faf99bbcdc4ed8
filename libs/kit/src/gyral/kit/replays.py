"""Who had what put back, when and why: written with the putting back, never rewritten."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, StringConstraints

from gyral.kit.access import Caller
from gyral.kit.tx import Tx

_NAMESPACE = uuid.UUID("b8b1c6f4-7a53-5d0c-8c3f-2d4f0f6f7a90")
Because = Annotated[
    str,
    StringConstraints(
        strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00]*$"
    ),
]
"""Why somebody has something put back, in that person's words."""


class Kind(StrEnum):
    """What is put back."""

    DEAD_LETTER = "dead_letter"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class ReplayOrder:
    """Somebody's wish to have something put back."""

    id: uuid.UUID
    actor: str
    because: str


@dataclass(frozen=True, slots=True)
class Begun:
    """An order about to be carried out, or carried out before."""

    at: datetime
    """When it began, first: what is parked later may be what it put back."""
    items: list[str] | None
    """What this very order put back before."""


class ReplayTx(Tx):
    """A transaction that puts things back on their topics, and says who wanted it."""

    async def begin_replay(self, order: ReplayOrder) -> Begun:
        """Wait for other replays to end; return what this very order put back before.

        One at a time in each service: nothing is put back twice, and an order that is asked
        again because its answer was lost is answered as it was.
        """
        await self.conn.execute(
            "SELECT pg_advisory_xact_lock(hashtext('replay.' || current_schema()))"
        )
        before = await self.conn.fetchrow(
            "SELECT replayed_at, items FROM replay WHERE id = $1", order.id
        )
        if before is not None:
            return Begun(before["replayed_at"], before["items"])
        return Begun(await self.conn.fetchval("SELECT now()"), None)

    async def note(self, order: ReplayOrder, kind: Kind, items: Sequence[str]) -> None:
        """Leave the entry of the audit: who, why, when and which."""
        await self.conn.execute(
            "INSERT INTO replay (id, kind, items, actor, because) VALUES ($1, $2, $3, $4, $5)",
            order.id,
            kind.value,
            list(items),
            order.actor,
            order.because,
        )


def order_of(
    caller: Caller, asked: BaseModel, because: str, *, idempotency_key: str | None
) -> ReplayOrder:
    """Return the order a request means: the same one when its caller, key and body are."""
    name = f"{caller.key_id}/{idempotency_key}/{asked.model_dump_json()}"
    known = idempotency_key is not None
    id_ = uuid.uuid5(_NAMESPACE, name) if known else uuid.uuid4()
    return ReplayOrder(id_, f"{caller.name} {caller.key_id}", because)
