"""What the trainer does when training is asked for, data land, or a version's way ends."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta

from gyral.contracts.data import DatasetCommitted
from gyral.contracts.deployment import RolloutAborted, RolloutCompleted
from gyral.contracts.specs.document import duration_seconds
from gyral.contracts.training import RunAdmitted, RunCancelled, RunRequested, RunSuppressed
from gyral.contracts.versions import ModelDeclared, VersionRejected
from gyral.kit.changes import Changes
from gyral.kit.leases import Jobs
from gyral.kit.telemetry import current_traceparent, get_log, span
from gyral.kit.tx import Begin, following
from gyral.trainer.domain import runs
from gyral.trainer.domain.admission import Admitted, Known, Suppressed, admit
from gyral.trainer.domain.runs import Move
from gyral.trainer.store import Run, TrainerTx

log = get_log()
_RUNS = uuid.UUID("5b6de8a2-4d0a-5c1e-8f3b-2f6a1d7c9e40")


@dataclass(frozen=True, slots=True)
class Handlers:
    """The trainer's reactions, with everything they need in plain sight."""

    begin: Begin[TrainerTx]
    declared: Callable[[str, int], Awaitable[ModelDeclared | None]]
    """A model's declaration, at least as new as the given generation."""
    jobs: Jobs
    changes: Changes

    async def run_requested(self, event: RunRequested) -> None:
        """Admit the request or suppress it, and say which: once, however often it is made."""
        declared = await self.declared(event.model, event.spec_generation or 1)
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.queue_up()
            if await tx.decided(event.request_id) is not None:
                return
            decision = await self._decide(tx, event, declared)
            if isinstance(decision, Suppressed) or declared is None:
                await self._suppress(tx, event, decision)
            else:
                await self._admit(tx, event, declared, decision)
        self._tell()

    async def dataset_committed(self, event: DatasetCommitted) -> None:
        """Remember the pin and queue the runs whose data it completes."""
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.queue_up()
            await tx.advance_dataset(event)
            await self._queue_complete(tx)
        self._tell()

    async def version_rejected(self, event: VersionRejected) -> None:
        """End the flight of a run whose version failed its gates."""
        await self._land(event)

    async def rollout_completed(self, event: RolloutCompleted) -> None:
        """End the flight of a run whose version answers alone."""
        await self._land(event)

    async def rollout_aborted(self, event: RolloutAborted) -> None:
        """End the flight of a run whose version was taken back."""
        await self._land(event)

    async def cancel(self, run_id: str, *, actor: str, reason: str) -> Run | None:
        """Stop a run for good and return it as it is now, or None when there is none.

        Raises:
            IllegalMoveError: it is over already.
        """
        async with self.begin() as tx:
            await tx.queue_up()
            found = await tx.run(run_id)
            # The job before its run, as its worker takes them.
            if found is not None and found.job_id is not None:
                await self.jobs.cancel(tx, found.job_id)
            run = await tx.locked_run(run_id)
            if run is None:
                return None
            state = runs.after(run.state, Move.CANCEL)
            await tx.end(run_id, state, reason=reason)
            tx.because(run.origin, step=f"{run_id}/cancelled")
            await tx.publish(
                RunCancelled(
                    request_id=run.request_id,
                    model=run.model,
                    run_id=run_id,
                    actor=actor,
                    reason=reason,
                    as_of=run.as_of,
                )
            )
            ended = await tx.run(run_id)
        self._tell()
        return ended

    async def _decide(
        self, tx: TrainerTx, event: RunRequested, declared: ModelDeclared | None
    ) -> Admitted | Suppressed:
        body = None if declared is None else declared.spec.spec
        streams = () if body is None else (body.features.stream, body.label.stream)
        cooldown = 0.0 if body is None else duration_seconds(body.triggers.cooldown)
        known = Known(
            declared=body is not None,
            cooldown=timedelta(seconds=cooldown),
            missing_streams=await tx.missing(streams),
            in_flight=await tx.in_flight(event.model),
            last_admitted=await tx.last_admitted(event.model),
        )
        redo_of = event.evidence.get("run_id")
        return admit(
            event.cause, event.as_of, known, redo_of=None if redo_of is None else str(redo_of)
        )

    async def _suppress(
        self, tx: TrainerTx, event: RunRequested, decision: Admitted | Suppressed
    ) -> None:
        assert isinstance(decision, Suppressed)  # noqa: S101 - `admit` admits none
        await tx.suppress(event, decision)
        await tx.publish(
            RunSuppressed(
                request_id=event.request_id,
                model=event.model,
                why=decision.why,
                detail=decision.detail,
                as_of=event.as_of,
            )
        )
        log.info("run.suppressed", model=event.model, why=decision.why)

    async def _admit(
        self, tx: TrainerTx, event: RunRequested, declared: ModelDeclared, decision: Admitted
    ) -> None:
        if decision.supersedes is not None:
            await tx.land(decision.supersedes)
        run_id = str(uuid.uuid5(_RUNS, event.request_id))
        origin = following(event.delivery, current_traceparent())
        await tx.admit(event, run_id, declared, origin)
        await tx.publish(
            RunAdmitted(
                request_id=event.request_id,
                model=event.model,
                run_id=run_id,
                cause=event.cause,
                as_of=event.as_of,
            )
        )
        await self._queue_complete(tx)
        log.info("run.admitted", model=event.model, run_id=run_id, cause=event.cause)

    async def _queue_complete(self, tx: TrainerTx) -> None:
        """Give a job to each run whose data are complete; it continues its request's trace."""
        for run in await tx.complete_runs():
            with span("run queued", parent=run.origin.traceparent, gyral__run_id=run.run_id):
                job_id = await self.jobs.enqueue(
                    tx, run.run_id, {"run_id": run.run_id}, cause=run.origin
                )
            await tx.give_job(run.run_id, job_id)

    async def _land(self, event: VersionRejected | RolloutCompleted | RolloutAborted) -> None:
        async with self.begin() as tx:
            if await tx.claim(event):
                await tx.land(event.run_id)
        self.changes.notify()

    def _tell(self) -> None:
        """Wake, after the commit, whoever waits in this process."""
        self.jobs.wake()
        self.changes.notify()
