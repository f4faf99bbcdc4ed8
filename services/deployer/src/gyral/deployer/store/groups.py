"""How many runtimes each group is to have, and the events that tell of another number."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from gyral.contracts.deployment import RuntimesScaled
from gyral.kit.tx import Tx


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """One group as it is wanted."""

    name: str
    replicas: int
    why: str
    since: datetime


class GroupTx(Tx):
    """A transaction over the groups of runtimes."""

    async def hold_group(self, name: str) -> None:
        """Let no other transaction decide about this group until the end of this one."""
        await self.conn.execute(
            "SELECT pg_advisory_xact_lock(hashtext($1))", f"deployer/group/{name}"
        )

    async def groups(self) -> dict[str, StoredGroup]:
        """Return every group there is, by name."""
        rows = await self.conn.fetch(
            "SELECT name, replicas, why, since FROM runtime_group ORDER BY name"
        )
        return {row["name"]: StoredGroup(**row) for row in rows}

    async def group(self, name: str) -> StoredGroup | None:
        """Return one group, or None."""
        row = await self.conn.fetchrow(
            "SELECT name, replicas, why, since FROM runtime_group WHERE name = $1", name
        )
        return StoredGroup(**row) if row else None

    async def scale(
        self,
        name: str,
        replicas: int,
        *,
        why: str,
        now: datetime,
        measured: Mapping[str, float | int | None] | None = None,
    ) -> None:
        """Want so many runtimes of a group from now on, and tell of it."""
        before = await self.group(name)
        await self.conn.execute(
            """
            INSERT INTO runtime_group (name, replicas, why, since)
            VALUES ($1, $2, $3, $4)
                ON CONFLICT (name) DO UPDATE
               SET replicas = $2, why = $3, since = $4
            """,
            name, replicas, why, now,
        )  # fmt: skip
        await self._tell(name, before.replicas if before else 0, replicas, why, measured)

    async def forget_group(self, name: str, *, why: str) -> None:
        """Want none of a group, nor know it, from now on; and tell of it."""
        before = await self.group(name)
        if before is not None:
            await self.conn.execute("DELETE FROM runtime_group WHERE name = $1", name)
            await self._tell(name, before.replicas, 0, why, None)

    async def _tell(
        self,
        name: str,
        before: int,
        after: int,
        why: str,
        measured: Mapping[str, float | int | None] | None,
    ) -> None:
        await self.publish(
            RuntimesScaled(
                group=name,
                before=before,
                after=after,
                why=why[:500],
                measured=dict(measured or {}),
            )
        )
