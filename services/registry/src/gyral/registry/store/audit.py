"""The audit log: appended in the transaction of the change it tells of."""

import json
from collections.abc import Mapping
from datetime import datetime

import asyncpg

from gyral.kit.tx import Tx
from gyral.registry.domain.audit import GENESIS, Entry, entry_hash


class AuditTx(Tx):
    """A transaction that leaves an entry in the chain."""

    async def audit(
        self,
        *,
        now: datetime,
        actor: str,
        action: str,
        subject: str,
        reason: str,
        change: Mapping[str, object],
    ) -> None:
        """Append one entry; writers wait for each other until they commit."""
        await self.conn.execute("SELECT pg_advisory_xact_lock(hashtext('registry.audit'))")
        head = await self.conn.fetchrow("SELECT seq, hash FROM audit ORDER BY seq DESC LIMIT 1")
        seq, previous = (head["seq"] + 1, head["hash"]) if head else (1, GENESIS)
        plain: dict[str, object] = json.loads(json.dumps(change, default=str))
        hashed = entry_hash(
            previous=previous,
            seq=seq,
            at=now,
            actor=actor,
            action=action,
            subject=subject,
            reason=reason,
            change=plain,
        )
        await self.conn.execute(
            """
            INSERT INTO audit (seq, at, actor, action, subject, reason, change, previous, hash)
            VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
            """,
            seq, now, actor, action, subject, reason, json.dumps(plain), previous, hashed,
        )  # fmt: skip

    async def pin_was_audited(self, pin_id: str, model: str) -> bool:
        """True when the log has an operator's pin of a model already."""
        known: bool = await self.conn.fetchval(
            """
            SELECT EXISTS (
                SELECT FROM audit
                 WHERE action = 'route.pinned'
                   AND change ->> 'pin_id' = $1 AND change ->> 'model' = $2
            )
            """,
            pin_id, model,
        )  # fmt: skip
        return known

    async def audit_entries(self, *, after: int, limit: int) -> list[Entry]:
        """Return up to `limit` entries whose number is greater than `after`, in order."""
        rows = await self.conn.fetch(
            """
            SELECT seq, at, actor, action, subject, reason, change, previous, hash
              FROM audit
             WHERE seq > $1
             ORDER BY seq
             LIMIT $2
            """,
            after, limit,
        )  # fmt: skip
        return [_entry(row) for row in rows]


def _entry(row: asyncpg.Record) -> Entry:
    return Entry(
        seq=row["seq"],
        at=row["at"],
        actor=row["actor"],
        action=row["action"],
        subject=row["subject"],
        reason=row["reason"],
        change=json.loads(row["change"]),
        previous=row["previous"],
        hash=row["hash"],
    )
