"""The queue of work longer than a handler may take: claimed by lease, fenced by token."""

import asyncio
import json
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from gyral.contracts.events import Delivery
from gyral.kit.db import Pool
from gyral.kit.telemetry import current_traceparent
from gyral.kit.tx import Tx

_NAMESPACE = uuid.UUID("0c9d7ad1-3c35-5b3b-9f53-0f8a3e4b8a11")
Scalar = str | int | float | bool | None


class Lost(Exception):  # noqa: N818 - a fact about us, not a fault
    """The lease ran out and the job is another worker's, or it was cancelled."""


@dataclass(frozen=True, slots=True)
class Job:
    """A claimed job; its token tells this claim from every other."""

    id: str
    kind: str
    spec: Mapping[str, Scalar]
    token: int
    attempts: int
    max_attempts: int
    cause: Delivery | None

    @property
    def traceparent(self) -> str | None:
        """The trace of the event that queued it."""
        return self.cause.traceparent if self.cause else None


class Jobs:
    """One kind of job of a service, in its own schema."""

    def __init__(self, pool: Pool, kind: str, *, max_attempts: int = 5) -> None:
        self.kind = kind
        self._pool = pool
        self._max_attempts = max_attempts
        self._queued = asyncio.Event()

    async def enqueue(
        self, tx: Tx, name: str, spec: Mapping[str, Scalar], *, cause: Delivery | None = None
    ) -> str:
        """Queue a job in the caller's transaction; the same name gives the same id."""
        job_id = str(uuid.uuid5(_NAMESPACE, f"{tx.service}/{self.kind}/{name}"))
        traceparent = current_traceparent() or (cause.traceparent if cause else None)
        await tx.conn.execute(
            """
            INSERT INTO job
                   (id, kind, spec, max_attempts, event_id, correlation_id, traceparent)
            VALUES ($1, $2, $3, $4, $5, $6, $7)
                ON CONFLICT (id) DO NOTHING
            """,
            job_id,
            self.kind,
            json.dumps(spec),
            self._max_attempts,
            cause.event_id if cause else None,
            cause.correlation_id if cause else None,
            traceparent,
        )
        self._queued.set()
        return job_id

    async def claim(self, worker: str, lease_s: float) -> Job | None:
        """Take the oldest job that is queued or whose lease ran out, or None."""
        row = await self._pool.fetchrow(
            """
            UPDATE job
               SET state = 'running', worker = $2, token = token + 1, attempts = attempts + 1,
                   lease_until = now() + make_interval(secs => $3)
             WHERE id = (SELECT id
                           FROM job
                          WHERE kind = $1
                            AND (state = 'queued' AND not_before <= now()
                                 OR state = 'running' AND lease_until < now())
                          ORDER BY created_at
                          LIMIT 1
                            FOR UPDATE SKIP LOCKED)
            RETURNING id, kind, spec, token, attempts, max_attempts,
                      event_id, correlation_id, traceparent
            """,
            self.kind,
            worker,
            lease_s,
        )
        if row is None:
            return None
        cause = None
        if row["event_id"] is not None:
            cause = Delivery(
                row["event_id"], row["correlation_id"], traceparent=row["traceparent"]
            )
        return Job(
            id=str(row["id"]),
            kind=row["kind"],
            spec=json.loads(row["spec"]),
            token=row["token"],
            attempts=row["attempts"],
            max_attempts=row["max_attempts"],
            cause=cause,
        )

    async def heartbeat(self, job: Job, lease_s: float) -> None:
        """Keep the lease.

        Raises:
            Lost: another worker has the job, or somebody cancelled it.
        """
        kept = await self._pool.fetchval(
            """
            UPDATE job
               SET lease_until = now() + make_interval(secs => $3)
             WHERE id = $1 AND token = $2 AND state = 'running'
            RETURNING true
            """,
            job.id,
            job.token,
            lease_s,
        )
        if not kept:
            raise Lost(f"job {job.id}: the lease of attempt {job.attempts} is gone")

    async def complete(self, tx: Tx, job: Job) -> None:
        """End the job in the transaction of its effects.

        Raises:
            Lost: the job is no longer ours; the transaction must not commit.
        """
        await self._end(tx, job, "done", None)

    async def fail(self, tx: Tx, job: Job, reason: str) -> None:
        """End the job as failed in the caller's transaction; raises Lost like `complete`."""
        await self._end(tx, job, "failed", reason[:500])

    async def _end(self, tx: Tx, job: Job, state: str, reason: str | None) -> None:
        ended = await tx.conn.fetchval(
            """
            UPDATE job
               SET state = $3, reason = $4, lease_until = NULL
             WHERE id = $1 AND token = $2 AND state = 'running'
            RETURNING true
            """,
            job.id,
            job.token,
            state,
            reason,
        )
        if not ended:
            raise Lost(f"job {job.id}: attempt {job.attempts} ended after its lease")

    async def release(self, job: Job, *, after_s: float = 0.0, counted: bool = True) -> None:
        """Put the job back into the queue; `counted=False` gives the attempt back."""
        await self._pool.execute(
            """
            UPDATE job
               SET state = 'queued', lease_until = NULL, attempts = attempts - $4,
                   not_before = now() + make_interval(secs => $3)
             WHERE id = $1 AND token = $2 AND state = 'running'
            """,
            job.id,
            job.token,
            after_s,
            0 if counted else 1,
        )
        self._queued.set()

    async def cancel(self, tx: Tx, job_id: str) -> bool:
        """Cancel a job in the caller's transaction; False when it has ended already."""
        cancelled = await tx.conn.fetchval(
            """
            UPDATE job
               SET state = 'cancelled', lease_until = NULL
             WHERE id = $1 AND state IN ('queued', 'running')
            RETURNING true
            """,
            job_id,
        )
        return bool(cancelled)

    async def end(self, job: Job, state: str, reason: str | None = None) -> bool:
        """End the job outside any transaction; False when it is no longer ours or has ended."""
        ended = await self._pool.fetchval(
            """
            UPDATE job
               SET state = $3, reason = $4, lease_until = NULL
             WHERE id = $1 AND token = $2 AND state = 'running'
            RETURNING true
            """,
            job.id,
            job.token,
            state,
            reason,
        )
        return bool(ended)

    def wake(self) -> None:
        """Have workers of this process look at once; for queued work that became possible."""
        self._queued.set()

    async def wait(self, timeout_s: float) -> None:
        """Return when a job was queued by this process, or when the time is over."""
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._queued.wait()
        self._queued.clear()
