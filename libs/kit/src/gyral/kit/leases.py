"""Work longer than a handler may take: claimed by lease, kept by heartbeat, fenced by token."""

import asyncio
from dataclasses import dataclass, field

from gyral.contracts.events import Delivery
from gyral.kit.db import Pool
from gyral.kit.telemetry import current_traceparent
from gyral.kit.tx import Tx

_COLUMNS = "id, kind, spec, token, attempts, max_attempts, checkpoint, event_id, correlation_id, traceparent"


class Lost(Exception):  # noqa: N818 - a fact about us, not a fault
    """The lease ran out or another worker has the job: whatever we computed must not be written."""


@dataclass(frozen=True, slots=True)
class Job:
    """One claimed piece of work; `token` is what entitles its holder to write."""

    id: str
    kind: str
    spec: str
    """JSON, as it was enqueued."""
    token: int
    attempts: int
    """1 for the first."""
    max_attempts: int
    checkpoint: str | None
    """JSON of the last `save`, by whichever worker."""
    cause: Delivery | None
    """The event behind it: `tx.because(job.cause, step=...)`."""
    cancelled: asyncio.Event = field(default_factory=asyncio.Event, compare=False)
    """Set by the heartbeat when someone asked to cancel; the run ends by itself."""

    @property
    def traceparent(self) -> str | None:
        """The trace the job continues."""
        return self.cause.traceparent if self.cause else None


class Jobs:
    """The queue of one kind of job, in the service's own schema."""

    def __init__(self, pool: Pool, kind: str) -> None:
        self._pool = pool
        self.kind = kind

    async def enqueue(
        self, tx: Tx, job_id: str, spec: str, *, cause: Delivery | None = None, max_attempts: int = 5
    ) -> bool:
        """Add a job in the caller's transaction; False when that id exists already."""
        added: bool | None = await tx.conn.fetchval(
            """
            INSERT INTO job (id, kind, spec, max_attempts, event_id, correlation_id, traceparent)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (id) DO NOTHING
            RETURNING true
            """,
            job_id,
            self.kind,
            spec,
            max_attempts,
            cause.event_id if cause else None,
            cause.correlation_id if cause else None,
            current_traceparent() or (cause.traceparent if cause else None),
        )
        return bool(added)

    async def claim(self, worker: str, lease_s: float) -> Job | None:
        """Take the oldest job that is queued or whose lease ran out, or None.

        A job past its `max_attempts` is handed out once more, for its holder to fail it.
        """
        row = await self._pool.fetchrow(
            f"""
            UPDATE job
               SET state = 'running', worker = $2, token = token + 1, attempts = attempts + 1,
                   lease_until = now() + make_interval(secs => $3)
             WHERE id = (SELECT id
                           FROM job
                          WHERE kind = $1
                            AND (   (state = 'queued' AND not_before <= now())
                                 OR (state = 'running' AND lease_until < now()))
                          ORDER BY created_at
                            FOR UPDATE SKIP LOCKED
                          LIMIT 1)
            RETURNING {_COLUMNS}
            """,  # noqa: S608 - a constant
            self.kind,
            worker,
            lease_s,
        )
        if row is None:
            return None
        cause = (
            Delivery(row["event_id"], row["correlation_id"], traceparent=row["traceparent"])
            if row["event_id"]
            else None
        )
        return Job(
            id=str(row["id"]),
            kind=row["kind"],
            spec=row["spec"],
            token=row["token"],
            attempts=row["attempts"],
            max_attempts=row["max_attempts"],
            checkpoint=row["checkpoint"],
            cause=cause,
        )

    async def heartbeat(self, job: Job, lease_s: float) -> None:
        """Prolong the lease, and set `job.cancelled` when asked to.

        Raises:
            Lost: the job is not ours any more.
        """
        cancel: bool | None = await self._pool.fetchval(
            """
            UPDATE job
               SET lease_until = now() + make_interval(secs => $3)
             WHERE id = $1 AND token = $2 AND state = 'running'
            RETURNING cancel
            """,
            job.id,
            job.token,
            lease_s,
        )
        if cancel is None:
            raise Lost(f"{job.kind} {job.id}: token {job.token} is not the holder's")
        if cancel:
            job.cancelled.set()

    async def save(self, job: Job, checkpoint: str) -> None:
        """Remember how far the work got, for the next attempt.

        Raises:
            Lost: the job is not ours any more.
        """
        saved = await self._pool.fetchval(
            """
            UPDATE job
               SET checkpoint = $3
             WHERE id = $1 AND token = $2 AND state = 'running'
            RETURNING true
            """,
            job.id,
            job.token,
            checkpoint,
        )
        if not saved:
            raise Lost(f"{job.kind} {job.id}: token {job.token} is not the holder's")

    async def complete(self, tx: Tx, job: Job) -> None:
        """End the job as done, with the rest of the caller's transaction.

        Raises:
            Lost: the job is not ours any more; nothing of the transaction may commit.
        """
        await self._end(tx, job, "done", None)

    async def fail(self, tx: Tx, job: Job, reason: str) -> None:
        """End the job as failed, with the rest of the caller's transaction.

        Raises:
            Lost: as for `complete`.
        """
        await self._end(tx, job, "failed", reason)

    async def end_cancelled(self, tx: Tx, job: Job, reason: str) -> None:
        """End the job as cancelled, with the rest of the caller's transaction.

        Raises:
            Lost: as for `complete`.
        """
        await self._end(tx, job, "cancelled", reason)

    async def cancel(self, tx: Tx, job_id: str, reason: str) -> str | None:
        """Ask to cancel: a queued job ends at once, a running one is told by its heartbeat.

        Returns:
            The state it is in now: cancelled, running, or its earlier end; None when unknown.
        """
        state: str | None = await tx.conn.fetchval(
            """
            UPDATE job
               SET cancel = true,
                   reason = CASE WHEN state IN ('queued', 'running') THEN $3 ELSE reason END,
                   state  = CASE WHEN state = 'queued' THEN 'cancelled' ELSE state END
             WHERE id = $1 AND kind = $2
            RETURNING state
            """,
            job_id,
            self.kind,
            reason,
        )
        return state

    async def put_back(self, job: Job, *, after_s: float, reason: str) -> None:
        """Queue the job again for a later attempt; a lost one is left to its holder."""
        await self._pool.execute(
            """
            UPDATE job
               SET state = 'queued', reason = $4, not_before = now() + make_interval(secs => $3)
             WHERE id = $1 AND token = $2 AND state = 'running'
            """,
            job.id,
            job.token,
            after_s,
            reason[:500],
        )

    async def _end(self, tx: Tx, job: Job, state: str, reason: str | None) -> None:
        ended = await tx.conn.fetchval(
            """
            UPDATE job
               SET state = $3, reason = coalesce($4, reason), lease_until = NULL
             WHERE id = $1 AND token = $2 AND state = 'running'
            RETURNING true
            """,
            job.id,
            job.token,
            state,
            reason,
        )
        if not ended:
            raise Lost(f"{job.kind} {job.id}: token {job.token} is not the holder's")
