"""What the registry does when runs end, rollouts end, data land and quality drops."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

from gyral.contracts.data import DatasetCommitted
from gyral.contracts.deployment import (
    RolloutAborted,
    RolloutCompleted,
    RolloutSteered,
    RoutePinned,
)
from gyral.contracts.evaluation import EvaluationReport
from gyral.contracts.monitoring import QualityDropped
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.training import (
    Artifacts,
    Cause,
    RunCancelled,
    RunFailed,
    RunRequested,
    RunSucceeded,
    RunSuppressed,
)
from gyral.contracts.versions import (
    ChampionChanged,
    VersionApproved,
    VersionRegistered,
    VersionRejected,
)
from gyral.kit.changes import Changes
from gyral.kit.tx import Begin, PermanentError
from gyral.registry.domain import verdict
from gyral.registry.engine import Evidence, UnreadableEvidenceError
from gyral.registry.store import RegistryTx
from gyral.registry.store.versions import Champion, StoredVersion

ACTOR = "registry"

REFUSED = "aborted"
"""Stage in which a rollout is aborted that was over before anything was done for it."""


class _Ids(TypedDict):
    """What every event of a version begins with."""

    model: str
    version: int
    run_id: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Read:
    """A run's evidence, as it was read."""

    report: EvaluationReport
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Handlers:
    """The registry's reactions, with everything they need in plain sight."""

    begin: Begin[RegistryTx]
    evidence: Evidence
    now: Callable[[], datetime]
    new_id: Callable[[], str]
    changes: Changes

    async def run_succeeded(self, event: RunSucceeded) -> None:
        """Register what a run made, judge it, and say so: once, however often delivered.

        A version that cannot be judged is rejected: its run is over, too.
        """
        evidence = await self._evidence(event.artifacts)
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.hold("Model", event.model)
            await self._register(tx, event, await self._judge(tx, event, evidence))
        self.changes.notify()

    async def _evidence(self, artifacts: Artifacts) -> Read | UnreadableEvidenceError:
        """Read what the verdict rests on; a store that is away is waited for, not judged."""
        try:
            return Read(
                await self.evidence.evaluation(artifacts.evaluation),
                await self.evidence.input_names(artifacts),
            )
        except UnreadableEvidenceError as unreadable:
            return unreadable

    async def _judge(
        self, tx: RegistryTx, run: RunSucceeded, evidence: Read | UnreadableEvidenceError
    ) -> verdict.Verdict:
        spec = await tx.model_spec(run.model)
        if spec is None:
            return verdict.undeclared(run.model)
        champion = await tx.champion(run.model)
        if champion is not None and run.champion_version != champion.version:
            await self._ask_again(tx, run)
            return verdict.stale(run.champion_version, champion.version)
        if isinstance(evidence, UnreadableEvidenceError):
            return verdict.unreadable(str(evidence))
        return verdict.judge(run, evidence.report, evidence.inputs, spec.spec)

    async def _register(
        self, tx: RegistryTx, run: RunSucceeded, judged: verdict.Verdict
    ) -> None:
        """Give the version its number, publish the verdict, and leave both in the audit log."""
        number = await tx.next_version(run.model)
        await tx.add_version(run, number, judged, now=self.now())
        ids = _Ids(
            model=run.model, version=number, run_id=run.run_id, request_id=run.request_id
        )
        await tx.publish(
            VersionRegistered(**ids, artifacts=run.artifacts, datasets=run.datasets)
        )
        if judged.approved:
            await tx.publish(
                VersionApproved(
                    **ids,
                    cause=run.cause,
                    as_of=run.as_of,
                    artifacts=run.artifacts,
                    bootstrap=run.champion_version is None,
                    champion_version=run.champion_version,
                    spec_generation=run.spec_generation,
                    checks=judged.checks,
                )
            )
        else:
            await tx.end_bootstrap(run.request_id)
            await tx.publish(
                VersionRejected(
                    **ids, as_of=run.as_of, reasons=judged.reasons, checks=judged.checks
                )
            )
        await tx.audit(
            now=self.now(),
            actor=ACTOR,
            action="version.approved" if judged.approved else "version.rejected",
            subject=f"{run.model}@{number}",
            reason="; ".join(judged.reasons) or "every gate passed",
            change={
                "run_id": run.run_id,
                "request_id": run.request_id,
                "onnx_sha256": run.artifacts.onnx.sha256,
                "datasets": [pin.model_dump(mode="json") for pin in run.datasets],
                "checks": [check.model_dump(mode="json") for check in judged.checks],
            },
        )

    async def _ask_again(self, tx: RegistryTx, run: RunSucceeded | StoredVersion) -> None:
        """Ask for the comparison with today's champion.

        The request's id follows from the run's.
        """
        await tx.publish(
            RunRequested(
                request_id=verdict.rejudging_id(run.run_id),
                model=run.model,
                cause=Cause.STALE_VERDICT,
                as_of=run.as_of,
                spec_generation=run.spec_generation,
                evidence={"run_id": run.run_id},
            )
        )

    async def run_failed(self, event: RunFailed) -> None:
        """Leave a failed run in the audit log; a failed bootstrap may be asked for again."""
        await self._came_to_nothing(event, "run.failed", event.reason)

    async def run_suppressed(self, event: RunSuppressed) -> None:
        """Leave a bootstrap that was not admitted free to be asked for again."""
        async with self.begin() as tx:
            if await tx.claim(event):
                await tx.end_bootstrap(event.request_id)

    async def run_cancelled(self, event: RunCancelled) -> None:
        """Leave a cancelled run in the audit log.

        A cancelled bootstrap may be asked for again.
        """
        await self._came_to_nothing(event, "run.cancelled", event.reason)

    async def _came_to_nothing(
        self, event: RunFailed | RunCancelled, action: str, reason: str
    ) -> None:
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.end_bootstrap(event.request_id)
            await tx.audit(
                now=self.now(),
                actor="trainer",
                action=action,
                subject=event.model,
                reason=reason,
                change={"run_id": event.run_id, "request_id": event.request_id},
            )
        self.changes.notify()

    async def rollout_completed(self, event: RolloutCompleted) -> None:
        """Make the version that now answers alone the champion; only an approved one can be.

        A completion that comes late, as from a replayed dead letter, changes no champion.
        """
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.hold("Model", event.model)
            version = await tx.version(event.model, event.version)
            if version is None or version.state != "approved":
                raise PermanentError(
                    f"{event.model}@{event.version}: expected an approved version; found "
                    f"{version.state if version else 'none'}"
                )
            before = await tx.champion(event.model)
            if before is not None and event.epoch <= before.epoch:
                await self._leave_late(tx, event, before)
                return
            champion = Champion(
                version=event.version,
                previous=before.version if before else None,
                generation=before.generation + 1 if before else 1,
                epoch=event.epoch,
                as_of=event.as_of or version.as_of,
            )
            await tx.set_champion(event.model, champion)
            await tx.publish(
                ChampionChanged(
                    model=event.model,
                    generation=champion.generation,
                    version=champion.version,
                    previous=champion.previous,
                    run_id=event.run_id,
                    as_of=champion.as_of,
                    artifacts=version.artifacts,
                    actor=event.actor,
                    reason=event.reason,
                )
            )
            await tx.audit(
                now=self.now(),
                actor=event.actor,
                action="champion.changed",
                subject=f"{event.model}@{event.version}",
                reason=event.reason,
                change={
                    "before": champion.previous,
                    "after": champion.version,
                    "epoch": event.epoch,
                },
            )
        self.changes.notify()

    async def _leave_late(
        self, tx: RegistryTx, event: RolloutCompleted, champion: Champion
    ) -> None:
        await tx.audit(
            now=self.now(),
            actor=event.actor,
            action="champion.kept",
            subject=f"{event.model}@{champion.version}",
            reason=f"epoch: expected one after {champion.epoch}; found {event.epoch}",
            change={"completed": event.version, "epoch": event.epoch},
        )

    async def rollout_aborted(self, event: RolloutAborted) -> None:
        """Leave an aborted rollout in the audit log; the champion stays.

        A version that never began because another than its rival answers is judged again.
        """
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.hold("Model", event.model)
            await tx.end_bootstrap(event.request_id)
            if event.stage == REFUSED:
                await self._repeat_if_stale(tx, event)
            await tx.audit(
                now=self.now(),
                actor=event.actor,
                action="rollout.aborted",
                subject=f"{event.model}@{event.version}",
                reason=event.reason,
                change={"stage": event.stage, "measured": event.measured, "epoch": event.epoch},
            )
        self.changes.notify()

    async def rollout_steered(self, event: RolloutSteered) -> None:
        """Leave in the audit log who held a rollout or let it go on, and why."""
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.audit(
                now=self.now(),
                actor=event.actor,
                action=f"rollout.{event.order}",
                subject=f"{event.model}@{event.version}",
                reason=event.reason,
                change={"stage": event.stage, "epoch": event.epoch},
            )

    async def route_pinned(self, event: RoutePinned) -> None:
        """Leave an emergency's pin in the audit log, once for all gateways it was set at."""
        [share] = event.route.shares
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.hold("Model", event.key)
            if await tx.pin_was_audited(event.pin_id, event.key):
                return
            await tx.audit(
                now=self.now(),
                actor=event.actor,
                action="route.pinned",
                subject=f"{event.key}@{share.version}",
                reason=event.reason,
                change={
                    "pin_id": event.pin_id,
                    "model": event.key,
                    "pinned_at": event.pinned_at.isoformat(),
                    "epoch": event.route.epoch,
                },
            )

    async def _repeat_if_stale(self, tx: RegistryTx, event: RolloutAborted) -> None:
        version = await tx.version(event.model, event.version)
        champion = await tx.champion(event.model)
        if version is None or champion is None:
            return
        if version.champion_version != champion.version:
            await self._ask_again(tx, version)

    async def quality_dropped(self, event: QualityDropped) -> None:
        """Leave an alarm and its numbers in the audit log."""
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.audit(
                now=self.now(),
                actor="monitor",
                action="quality.dropped",
                subject=f"{event.model}@{event.version}",
                reason=f"{event.detector} {event.measured:.4g} over {event.threshold:.4g}",
                change={
                    "request_id": event.request_id,
                    "window_start": event.window_start.isoformat(),
                    "window_end": event.window_end.isoformat(),
                },
            )

    async def dataset_committed(self, event: DatasetCommitted) -> None:
        """Remember how far a stream's data are, and ask for first trainings that are due."""
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.advance_data(event)
            for declared in await tx.all_declared("Model"):
                spec = ModelSpec.model_validate_json(declared.document)
                if event.dataset.stream in (spec.spec.features.stream, spec.spec.label.stream):
                    await tx.ask_for_bootstrap(spec, declared.generation, self.new_id())
