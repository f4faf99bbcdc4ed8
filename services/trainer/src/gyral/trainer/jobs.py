"""The leased work: a run trained in its own process, its artifacts kept, its outcome said."""

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from gyral.contracts.data import StreamDeclared
from gyral.contracts.names import DatasetPin
from gyral.contracts.training import (
    Artifacts,
    RunFailed,
    RunProgressed,
    RunStarted,
    RunSucceeded,
)
from gyral.contracts.versions import ChampionChanged
from gyral.kit.backoff import Backoff
from gyral.kit.blobs import Blobs
from gyral.kit.changes import Changes
from gyral.kit.db import is_infrastructure
from gyral.kit.leases import Job, Jobs
from gyral.kit.projection import Projection
from gyral.kit.telemetry import get_log, span
from gyral.kit.tx import Begin
from gyral.trainer.domain import runs
from gyral.trainer.domain.runs import OPEN, Move
from gyral.trainer.engine.child import Trainers, TrainingTooLongError
from gyral.trainer.engine.order import (
    ARTIFACTS,
    CODE,
    TORCH_ARTIFACTS,
    ChampionFiles,
    Done,
    Order,
    Progress,
    Refused,
)
from gyral.trainer.engine.order import Table as PinnedTable
from gyral.trainer.store import Dataset, Run, TrainerTx

log = get_log()

PATIENCE_S = 600.0
"""Longest wait for Postgres and the object store at a training's end; then it is done anew."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """A run with everything its training needs at hand."""

    run: Run
    order: Order
    pins: tuple[DatasetPin, ...]


@dataclass(frozen=True, slots=True)
class ProgressReporter:
    """Says how far a run is, while its training goes on."""

    begin: Begin[TrainerTx]
    job: Job
    run: Run

    async def report(self, progress: Progress) -> None:
        """Say it, or leave it out while Postgres is away: the training is worth more.

        Raises:
            Lost: the job is no longer ours, so the training is for nobody.
        """
        try:
            await self._say(progress)
        except Exception as error:
            if not is_infrastructure(error):
                raise
            log.warning("run.unsaid", run_id=self.run.run_id, error=type(error).__name__)

    async def _say(self, progress: Progress) -> None:
        run, job = self.run, self.job
        async with self.begin() as tx:
            await tx.hold(job)
            await tx.progress(run.run_id, progress.stage, progress.share)
            tx.because(job.cause, step=f"{run.run_id}/{job.token}/{progress.stage}")
            await tx.publish(
                RunProgressed(
                    request_id=run.request_id,
                    model=run.model,
                    run_id=run.run_id,
                    stage=progress.stage,
                    share=progress.share,
                )
            )


@dataclass(frozen=True, slots=True)
class Training:
    """Runs jobs: each step may be the last before a crash, and the next attempt starts over."""

    begin: Begin[TrainerTx]
    jobs: Jobs
    trainers: Trainers
    blobs: Blobs
    streams: Projection[StreamDeclared]
    champions: Projection[ChampionChanged]
    changes: Changes
    scratch: Path
    """Folder for orders and artifacts on their way; what a crash left is removed at start."""
    memory_bytes: int | None

    async def clear_scratch(self) -> None:
        """Remove what earlier processes left behind."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)

    async def run(self, job: Job) -> None:
        """Train the run a job stands for, to its one outcome."""
        run_id = str(job.spec["run_id"])
        async with self.begin() as tx:
            run = await tx.run(run_id)
        if run is None or run.state not in OPEN:
            return
        with (
            span(
                "run train",
                parent=job.traceparent,
                gyral__run_id=run_id,
                gyral__attempt=job.attempts,
            ),
            tempfile.TemporaryDirectory(dir=self.scratch) as folder,
        ):
            prepared = await self._prepare(run, Path(folder))
            await self._started(job, prepared)
            try:
                said = await self._train(job, prepared, Path(folder))
            except TrainingTooLongError as error:
                said = Refused(reason=str(error))
            if isinstance(said, Done):
                await self._succeed_in_time(job, prepared, said)
            else:
                await self.give_up(job, said.reason)
        # The next run's imports happen while this one is judged.
        await self.trainers.start()

    async def give_up(self, job: Job, reason: str) -> None:
        """End a run as failed: no attempt can help, or all are used up."""
        run_id = str(job.spec["run_id"])
        async with self.begin() as tx:
            await self.jobs.fail(tx, job, reason)
            run = await tx.locked_run(run_id)
            if run is None or run.state not in OPEN:
                return
            await tx.end(run_id, runs.after(run.state, Move.FAIL), reason=reason[:500])
            tx.because(run.origin, step=f"{run_id}/failed")
            await tx.publish(
                RunFailed(
                    request_id=run.request_id,
                    model=run.model,
                    run_id=run_id,
                    reason=reason[:500],
                    attempts=job.attempts,
                    as_of=run.as_of,
                )
            )
        log.warning("run.failed", model=run.model, run_id=run_id, reason=reason[:500])
        self.changes.notify()

    async def _prepare(self, run: Run, folder: Path) -> Prepared:
        """Pin the newest datasets and fetch today's champion."""
        await self.champions.refresh()
        body = run.declared.spec.spec
        async with self.begin() as tx:
            features = await tx.dataset(body.features.stream)
            labels = await tx.dataset(body.label.stream)
        output = folder / "artifacts"
        output.mkdir()
        order = Order(
            run_id=run.run_id,
            model=run.model,
            spec=body,
            as_of=run.as_of,
            features=await self._table(body.features.stream, features),
            labels=await self._table(body.label.stream, labels),
            champion=await self._champion(run.model, folder),
            output=output,
            memory_bytes=self.memory_bytes,
        )
        pins = {it.pin.stream: it.pin for it in (features, labels) if it is not None}
        return Prepared(run, order, tuple(pins.values()))

    async def _table(self, stream: str, dataset: Dataset | None) -> PinnedTable:
        declared = self.streams.get(stream)
        if declared is None:
            await self.streams.refresh()
            declared = self.streams.get(stream)
        if declared is None or dataset is None:
            raise LookupError(
                f"stream {stream}: expected a declaration and a dataset; found none"
            )
        return PinnedTable(
            stream=stream,
            version=dataset.pin.version,
            uri=dataset.table_uri,
            spec=declared.spec.spec,
        )

    async def _champion(self, model: str, folder: Path) -> ChampionFiles | None:
        champion = self.champions.get(model)
        if champion is None:
            return None
        files = ChampionFiles(
            version=champion.version,
            model=folder / "champion.model",
            manifest=folder / "champion.json",
            code=None if champion.artifacts.code is None else folder / "champion.zip",
        )
        await self.blobs.get_file(champion.artifacts.onnx, files.model)
        await self.blobs.get_file(champion.artifacts.manifest, files.manifest)
        if files.code is not None and champion.artifacts.code is not None:
            await self.blobs.get_file(champion.artifacts.code, files.code)
        return files

    async def _started(self, job: Job, prepared: Prepared) -> None:
        run = prepared.run
        async with self.begin() as tx:
            await tx.hold(job)
            await tx.start(run.run_id, runs.after(run.state, Move.START), job.attempts)
            tx.because(job.cause, step=f"{run.run_id}/started/{job.token}")
            await tx.publish(
                RunStarted(
                    request_id=run.request_id,
                    model=run.model,
                    run_id=run.run_id,
                    attempt=job.attempts,
                    datasets=prepared.pins,
                )
            )
        self.changes.notify()

    async def _train(self, job: Job, prepared: Prepared, folder: Path) -> Done | Refused:
        path = folder / "order.json"
        path.write_text(prepared.order.model_dump_json(), encoding="utf-8")
        reporter = ProgressReporter(self.begin, job, prepared.run)
        return await self.trainers.train(path, reporter.report)

    async def _succeed_in_time(self, job: Job, prepared: Prepared, done: Done) -> None:
        """End a run as trained; a store that is away for a while is waited for."""
        backoff, waited_s = Backoff(first_s=0.2, limit_s=5.0), 0.0
        while True:
            try:
                return await self._succeed(job, prepared, done)
            except Exception as error:
                if not is_infrastructure(error) or waited_s > PATIENCE_S:
                    raise
                run_id = prepared.run.run_id
                log.warning("run.waits", run_id=run_id, error=type(error).__name__)
            waited_s += await backoff.wait()

    async def _succeed(self, job: Job, prepared: Prepared, done: Done) -> None:
        """Store the artifacts, then say so in the transaction that ends the job."""
        run, order = prepared.run, prepared.order
        result = RunSucceeded(
            request_id=run.request_id,
            model=run.model,
            run_id=run.run_id,
            cause=run.cause,
            as_of=run.as_of,
            artifacts=await self._store(job, order),
            datasets=prepared.pins,
            trained_until=done.trained_until,
            champion_version=order.champion.version if order.champion else None,
            code_sha256=done.code_sha256,
            spec_generation=run.declared.generation,
            seed=order.spec.train.seed,
            train_rows=done.train_rows,
            holdout_rows=done.holdout_rows,
            metrics=done.metrics,
        )
        async with self.begin() as tx:
            await self.jobs.complete(tx, job)
            held = await tx.locked_run(run.run_id)
            assert held is not None  # noqa: S101 - runs are never deleted
            await tx.succeed(run.run_id, runs.after(held.state, Move.SUCCEED), result)
            tx.because(job.cause, step=f"{run.run_id}/succeeded")
            await tx.publish(result)
        log.info("run.succeeded", model=run.model, run_id=run.run_id, rows=done.train_rows)
        self.changes.notify()

    async def _store(self, job: Job, order: Order) -> Artifacts:
        """Upload every artifact under this attempt's keys: no late rival overwrites it."""
        prefix = f"models/{order.model}/{order.run_id}/{job.token}"
        torch = (order.output / CODE).exists()
        refs = {
            name.partition(".")[0]: await self.blobs.put_file(
                f"{prefix}/{name}", order.output / name
            )
            for name in (TORCH_ARTIFACTS if torch else ARTIFACTS)
        }
        return Artifacts(
            onnx=refs["model"],
            code=refs.get("code"),
            manifest=refs["manifest"],
            profile=refs["profile"],
            golden=refs["golden"],
            evaluation=refs["evaluation"],
        )
