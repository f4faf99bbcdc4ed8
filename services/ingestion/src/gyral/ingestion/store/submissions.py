"""Remembers requests by their Idempotency-Key."""

from dataclasses import dataclass

from gyral.kit.db import Pool

CLAIM_S = 60
"""How long a request that died keeps its key from being tried again."""


@dataclass(frozen=True, slots=True)
class Claim:
    """A caller's Idempotency-Key, and the digest of what came with it."""

    key_id: str
    idempotency_key: str
    sha256: bytes


@dataclass(frozen=True, slots=True)
class Known:
    """An earlier request under the same key."""

    same_body: bool
    accepted: int | None
    """Rows it was answered with; None while it is worked on."""


class Submissions:
    """The memory of requests; one row a caller and key."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def claim(self, claim: Claim) -> Known | None:
        """Return None for the one request that may go ahead, else what is known of it."""
        async with self._pool.acquire() as conn, conn.transaction():
            ours: bool | None = await conn.fetchval(
                """
                INSERT INTO submission AS known (key_id, idempotency_key, sha256, claimed_until)
                VALUES ($1, $2, $3, now() + make_interval(secs => $4))
                    ON CONFLICT (key_id, idempotency_key)
                    DO UPDATE SET claimed_until = excluded.claimed_until
                 WHERE known.sha256 = excluded.sha256
                   AND known.accepted IS NULL
                   AND known.claimed_until < now()
                RETURNING true
                """,
                claim.key_id,
                claim.idempotency_key,
                claim.sha256,
                CLAIM_S,
            )
            if ours:
                return None
            row = await conn.fetchrow(
                """
                SELECT sha256, accepted FROM submission
                 WHERE key_id = $1 AND idempotency_key = $2
                """,
                claim.key_id,
                claim.idempotency_key,
            )
        if row is None:
            return Known(same_body=True, accepted=None)
        return Known(same_body=row["sha256"] == claim.sha256, accepted=row["accepted"])

    async def answered(self, claim: Claim, accepted: int) -> None:
        """Remember the answer."""
        await self._pool.execute(
            "UPDATE submission SET accepted = $3 WHERE key_id = $1 AND idempotency_key = $2",
            claim.key_id,
            claim.idempotency_key,
            accepted,
        )

    async def released(self, claim: Claim) -> None:
        """Let the same request be tried again at once."""
        await self._pool.execute(
            """
            UPDATE submission SET claimed_until = '-infinity'
             WHERE key_id = $1 AND idempotency_key = $2 AND accepted IS NULL
            """,
            claim.key_id,
            claim.idempotency_key,
        )

    async def purge(self, hours: float) -> None:
        """Forget requests older than this."""
        await self._pool.execute(
            "DELETE FROM submission WHERE created_at < now() - make_interval(secs => $1)",
            hours * 3600,
        )
