"""Work longer than a handler may take: claimed by lease, kept by heartbeat, fenced by token."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gyral.kit.backoff import Backoff
from gyral.kit.db import is_infrastructure
from gyral.kit.jobs import Job, Jobs, Lost
from gyral.kit.telemetry import get_log, span
from gyral.kit.tx import PermanentError

log = get_log()

__all__ = ["Job", "Jobs", "Lost", "Worker"]


class Worker:
    """Runs jobs one at a time; `run` ends a job with `complete`, or its plain return does.

    `run` must not hold up the loop for longer than a third of the lease: compute in a
    subprocess. When the lease is lost, or the job cancelled, `run` is cancelled.

    Args:
        on_exhausted: told of a job whose attempts are used up, with the reason; it ends the
            job (`jobs.fail`) with what follows from that. Without it the job is just failed.
    """

    def __init__(
        self,
        jobs: Jobs,
        run: Callable[[Job], Awaitable[None]],
        *,
        name: str,
        lease_s: float = 30.0,
        poll_s: float = 1.0,
        on_exhausted: Callable[[Job, str], Awaitable[None]] | None = None,
    ) -> None:
        self._jobs = jobs
        self._run_job = run
        self._name = name
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._on_exhausted = on_exhausted
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start claiming in the background."""
        self._task = asyncio.create_task(self._loop(), name=f"worker {self._jobs.kind}")

    async def stop(self) -> None:
        """Let go of the job in hand; its lease is given back."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def healthy(self) -> str | None:
        """Answer None while the loop lives."""
        if self._task is None or self._task.done():
            return (
                f"worker {self._jobs.kind}: expected it to run; found it ended or not started"
            )
        return None

    async def _loop(self) -> None:
        backoff = Backoff(first_s=0.2, limit_s=5.0)
        while True:
            try:
                job = await self._jobs.claim(self._name, self._lease_s)
                if job is None:
                    await self._jobs.wait(self._poll_s)
                else:
                    await self._attempt(job)
                backoff.reset()
            except Exception as error:
                if not is_infrastructure(error):
                    log.critical("worker.ended", kind=self._jobs.kind, exc_info=error)
                    raise
                log.warning("worker.waits", kind=self._jobs.kind, error=type(error).__name__)
                await backoff.wait()

    async def _attempt(self, job: Job) -> None:
        if job.attempts > job.max_attempts:
            # Each attempt before died with its process: nobody was left to count it as failed.
            await self._exhausted(job, f"no outcome after {job.max_attempts} attempts")
            return
        try:
            with span(
                f"{job.kind} job", parent=job.traceparent, job_id=job.id, attempt=job.attempts
            ):
                await self._under_lease(job)
        except Lost as lost:
            log.warning("job.lost", kind=job.kind, job_id=job.id, reason=str(lost))
        except asyncio.CancelledError:
            with suppress(Exception):
                await self._jobs.release(job, counted=False)
            raise
        except Exception as error:  # noqa: BLE001 - the kit's one worker loop
            await self._failed(job, error)
        else:
            await self._jobs.end(job, "done")

    async def _under_lease(self, job: Job) -> None:
        """Run the work beside its heartbeat; whichever ends first ends the other."""
        work = asyncio.ensure_future(self._run_job(job))
        beat = asyncio.create_task(self._beat(job), name=f"heartbeat {job.id}")
        try:
            await asyncio.wait({work, beat}, return_when=asyncio.FIRST_COMPLETED)
            (work if work.done() else beat).result()
        finally:
            for task in (work, beat):
                task.cancel()
            await asyncio.gather(work, beat, return_exceptions=True)

    async def _beat(self, job: Job) -> None:
        """Keep the lease; it is lost, too, when nobody could be asked while it lasted."""
        loop = asyncio.get_running_loop()
        expires_s = loop.time() + self._lease_s
        while True:
            await asyncio.sleep(self._lease_s / 3)
            asked_s = loop.time()
            try:
                async with asyncio.timeout(max(0.1, expires_s - asked_s)):
                    await self._jobs.heartbeat(job, self._lease_s)
                expires_s = asked_s + self._lease_s
            except Exception as error:
                if not is_infrastructure(error):
                    raise
                if loop.time() >= expires_s:
                    raise Lost(f"job {job.id}: no heartbeat for {self._lease_s:g} s") from error

    async def _failed(self, job: Job, error: Exception) -> None:
        """Try again later, unless this was the last attempt or no attempt can help."""
        if is_infrastructure(error):
            log.warning("job.waits", kind=job.kind, job_id=job.id, error=type(error).__name__)
            await self._jobs.release(job, after_s=1.0, counted=False)
            return
        log.error(
            "job.failed", kind=job.kind, job_id=job.id, attempt=job.attempts, exc_info=error
        )
        if job.attempts < job.max_attempts and not isinstance(error, PermanentError):
            await self._jobs.release(job, after_s=min(30.0, 2.0 ** (job.attempts - 1) / 2))
            return
        await self._exhausted(job, f"{type(error).__name__}: {error}"[:500])

    async def _exhausted(self, job: Job, reason: str) -> None:
        if self._on_exhausted is None:
            await self._jobs.end(job, "failed", reason)
            return
        with suppress(Lost):
            await self._on_exhausted(job, reason)
