"""Routes for the audit log."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime, JsonValue

from gyral.contracts.access import Scope
from gyral.contracts.events import Contract
from gyral.kit.access import Caller
from gyral.kit.http import scope
from gyral.kit.parameters import AfterNumber, Limit
from gyral.registry.api import Desk
from gyral.registry.domain.audit import GENESIS, first_break

PAGE = 1000
Reader = Annotated[Caller, scope(Scope.READ)]


class EntryView(Contract):
    """One state change."""

    seq: int
    at: AwareDatetime
    actor: str
    action: str
    subject: str
    reason: str
    change: dict[str, JsonValue]
    previous: str
    hash: str


class Verification(Contract):
    """Whether the chain holds from its first entry to its last."""

    entries: int
    head: str
    broken_at: int | None
    expected: str | None = None
    found: str | None = None


def routes(desk: Desk) -> APIRouter:
    """Return the routes."""
    router = APIRouter()

    @router.get("/v1/audit")
    async def entries(
        _caller: Reader, after: AfterNumber = 0, limit: Limit = 100
    ) -> list[EntryView]:
        """List state changes, oldest first."""
        async with desk.begin() as tx:
            return [
                EntryView.model_validate(asdict(entry))
                for entry in await tx.audit_entries(after=after, limit=limit)
            ]

    @router.get("/v1/audit/verify")
    async def verify(_caller: Reader) -> Verification:
        seq, head = 0, GENESIS
        async with desk.begin() as tx:
            while page := await tx.audit_entries(after=seq, limit=PAGE):
                broken = first_break(page, previous=head, seq=seq)
                if broken is not None:
                    return Verification(
                        entries=seq,
                        head=head,
                        broken_at=broken.seq,
                        expected=broken.expected,
                        found=broken.found,
                    )
                seq, head = page[-1].seq, page[-1].hash
        return Verification(entries=seq, head=head, broken_at=None)

    return router
