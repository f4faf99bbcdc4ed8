"""The loop that runs leased jobs, one at a time, and lets go when the lease is lost."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from gyral.kit.backoff import Backoff
from gyral.kit.db import is_infrastructure
from gyral.kit.leases import Job, Jobs, Lost
from gyral.kit.telemetry import get_log, span

log = get_log()


class Worker:
    """Claims jobs and runs them under a heartbeat.

    Args:
        run: does the work and ends the job in a transaction (`jobs.complete`, `fail`, `end_cancelled`).
            It must not block the loop for longer than a third of the lease: compute in a subprocess.
        gave_up: told of a job whose attempts are used up, with the reason; it ends the job
            (`jobs.fail`) and publishes what follows.
    """

    def __init__(  # noqa: PLR0913 - the knobs of one loop
        self,
        jobs: Jobs,
        run: Callable[[Job], Awaitable[None]],
        *,
        name: str,
        gave_up: Callable[[Job, str], Awaitable[None]],
        lease_s: float = 15.0,
        poll_s: float = 0.5,
        retry_after_s: float = 2.0,
    ) -> None:
        self._jobs = jobs
        self._run = run
        self._name = name
        self._gave_up = gave_up
        self._lease_s = lease_s
        self._poll_s = poll_s
        self._retry_after_s = retry_after_s
        self._kick = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start claiming in the background."""
        self._task = asyncio.create_task(self._loop(), name=f"worker {self._jobs.kind}")

    async def stop(self) -> None:
        """Abandon the job in hand; another worker takes it when the lease has run out."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await self._task
            self._task = None

    def kick(self) -> None:
        """Look for a job now; call it after a commit that enqueued one."""
        self._kick.set()

    def healthy(self) -> str | None:
        """Answer None while the loop lives."""
        if self._task is None or self._task.done():
            return f"worker {self._jobs.kind}: expected it to run; found it ended"
        return None

    async def _loop(self) -> None:
        backoff = Backoff(first_s=0.2, limit_s=5.0)
        while True:
            self._kick.clear()
            try:
                job = await self._jobs.claim(self._name, self._lease_s)
                if job is not None:
                    await self._attempt(job)
                    continue
            except Exception as error:  # the kit's one worker loop
                if not is_infrastructure(error):
                    raise
                log.warning("worker.waits", kind=self._jobs.kind, error=type(error).__name__)
                await backoff.wait()
                continue
            backoff.reset()
            with suppress(TimeoutError):
                async with asyncio.timeout(self._poll_s):
                    await self._kick.wait()

    async def _attempt(self, job: Job) -> None:
        if job.attempts > job.max_attempts:
            return await self._give_up(job, f"gave up after {job.max_attempts} attempts")
        try:
            with span(f"{job.kind} job", parent=job.traceparent, job_id=job.id, attempt=job.attempts):
                await self._under_lease(job)
        except Lost as lost:
            log.warning("job.lost", kind=job.kind, job_id=job.id, reason=str(lost))
        except Exception as error:  # the kit's one worker loop
            log.error("job.failed", kind=job.kind, job_id=job.id, attempt=job.attempts, exc_info=error)
            reason = f"{type(error).__name__}: {error}"[:500]
            if job.attempts >= job.max_attempts and not is_infrastructure(error):
                return await self._give_up(job, reason)
            delay_s = self._retry_after_s * 2.0 ** (job.attempts - 1)
            await self._jobs.put_back(job, after_s=min(60.0, delay_s), reason=reason)
        return None

    async def _give_up(self, job: Job, reason: str) -> None:
        with suppress(Lost):
            await self._gave_up(job, reason)

    async def _under_lease(self, job: Job) -> None:
        work = asyncio.ensure_future(self._run(job))
        beat = asyncio.create_task(self._beat(job), name=f"heartbeat {job.id}")
        try:
            done, _ = await asyncio.wait({work, beat}, return_when=asyncio.FIRST_COMPLETED)
            if work in done:
                return work.result()
            beat.result()
        finally:
            for task in (work, beat):
                task.cancel()
            await asyncio.gather(work, beat, return_exceptions=True)

    async def _beat(self, job: Job) -> None:
        """Prolong the lease until cancelled; lost as well when nobody could be asked for a whole lease."""
        loop = asyncio.get_running_loop()
        expires_s = loop.time() + self._lease_s
        while True:
            await asyncio.sleep(self._lease_s / 3)
            asked_s = loop.time()
            try:
                async with asyncio.timeout(max(0.1, expires_s - asked_s)):
                    await self._jobs.heartbeat(job, self._lease_s)
                expires_s = asked_s + self._lease_s
            except Exception as error:  # the lease decides, not the error
                if not is_infrastructure(error):
                    raise
                if loop.time() >= expires_s:
                    raise Lost(f"{job.kind} {job.id}: no heartbeat for {self._lease_s:g} s") from error
