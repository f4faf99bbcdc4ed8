"""How many runtimes each group is to have, and which there are."""

from typing import Annotated

from fastapi import APIRouter
from pydantic import AwareDatetime

from gyral.contracts.access import Scope
from gyral.contracts.events import Contract
from gyral.deployer.engine.groups import Groups
from gyral.deployer.store import DeployerTx
from gyral.kit.access import Caller
from gyral.kit.http import scope
from gyral.kit.tx import Begin

Reader = Annotated[Caller, scope(Scope.READ)]


class MemberView(Contract):
    """One runtime."""

    name: str
    address: str
    """Where gateways find it."""
    ready: bool


class GroupView(Contract):
    """One group of equal runtimes."""

    name: str
    wanted: int | None
    """None: somebody else starts them."""
    ready: int
    since: AwareDatetime | None
    """When the number that is wanted changed last."""
    why: str | None
    members: tuple[MemberView, ...]


def groups(begin: Begin[DeployerTx], known: Groups) -> APIRouter:
    """Return the route that tells of runtimes."""
    router = APIRouter()

    @router.get("/v1/runtimes")
    async def runtimes(_caller: Reader) -> list[GroupView]:
        """List the groups: what each is to have, what there is, and why."""
        async with begin() as tx:
            rows = await tx.groups()
        seats = await known.seats()
        found = []
        for name in sorted(rows.keys() | seats.keys()):
            row, here = rows.get(name), seats.get(name, ())
            members = [MemberView(name=s.name, address=s.address, ready=s.ready) for s in here]
            found.append(
                GroupView(
                    name=name,
                    wanted=row.replicas if row else None,
                    ready=sum(each.ready for each in here),
                    since=row.since if row else None,
                    why=row.why if row else None,
                    members=tuple(members),
                )
            )
        return found

    return router
