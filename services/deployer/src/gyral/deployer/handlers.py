"""What the deployer does when versions are approved and predictions are logged."""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import msgspec

from gyral.contracts.data import WatermarkAdvanced
from gyral.contracts.deployment import RoutePinned
from gyral.contracts.inference import Role
from gyral.contracts.versions import VersionApproved
from gyral.deployer.domain import rollouts
from gyral.deployer.domain.measures import Measures, compare
from gyral.deployer.domain.rollouts import Measured, Stage
from gyral.deployer.domain.samples import Step
from gyral.deployer.store import DeployerTx
from gyral.deployer.store.observations import Observation
from gyral.deployer.store.rollouts import StoredRollout
from gyral.deployer.store.specs import Specs
from gyral.deployer.store.transitions import Moment
from gyral.kit.changes import Changes
from gyral.kit.dataplane import Batch, is_marker
from gyral.kit.jobs import Scalar
from gyral.kit.leases import Jobs
from gyral.kit.telemetry import get_log, span
from gyral.kit.tx import Begin

log = get_log()


class Answer(msgspec.Struct, frozen=True):
    """What a rollout needs of a logged prediction, as its columns can hold it."""

    request_id: UUID
    model: str
    version: Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]
    role: Role
    epoch: int
    latency_us: Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]
    probabilities: list[float | None]
    entity_keys: list[str | None] = []


@dataclass(frozen=True, slots=True)
class Marker:
    """One partition's word that a model's event time has advanced."""

    model: str
    partition: int
    event_time: datetime


@dataclass(frozen=True, slots=True)
class Handlers:
    """The deployer's reactions, with everything they need in plain sight."""

    begin: Begin[DeployerTx]
    preparations: Jobs
    exports: Jobs
    specs: Specs
    partitions: int
    """Of the prediction log."""
    now: Callable[[], datetime]
    changes: Changes

    async def version_approved(self, event: VersionApproved) -> None:
        """Queue the version's preparation: once, however often delivered.

        While another version is on its way, or once another answers than the one it was
        compared with, it is taken back at once: no evidence says it is better.
        """
        spec = await self.specs.model(event.model, event.spec_generation)
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.hold(event.model)
            if await tx.rollout(event.model, event.version) is not None:
                return
            moment = Moment(self.now())
            why = await _void(tx, event)
            if why is not None:
                await tx.refuse(event, spec, why, moment)
            else:
                await tx.begin_rollout(event, spec, now=moment.now)
                await self._enqueue(tx, event)
        self.changes.notify()

    async def route_pinned(self, event: RoutePinned) -> None:
        """Adopt an operator's pin of an emergency before anything else is decided."""
        async with self.begin() as tx:
            if not await tx.claim(event):
                return
            await tx.hold(event.key)
            await tx.adopt(event, await tx.moment(event.key, self.now(), self.partitions))
        self.changes.notify()

    async def _enqueue(self, tx: DeployerTx, event: VersionApproved) -> None:
        name = f"{event.model}@{event.version}"
        job: dict[str, Scalar] = {"model": event.model, "version": event.version}
        await self.preparations.enqueue(tx, name, job, cause=event.delivery)
        await self.exports.enqueue(tx, name, job, cause=event.delivery)

    async def predictions(self, batch: Batch[DeployerTx]) -> None:
        """Count answered requests; judge each rollout whose step they may have ended."""
        answers, markers = read(batch)
        async with batch.commit() as tx:
            running = await tx.steps_under_way()
            await tx.observe(
                _observation(answer) for answer in answers if _counts(answer, running)
            )
            for marker in markers:
                await tx.advance_watermark(marker.model, marker.partition, marker.event_time)
            told = {marker.model for marker in markers}
            for model, step in sorted(running.items()):
                if model in told or not (
                    step.open_ended or await self.specs.event_clock(model)
                ):
                    await self._judge(tx, model)
        self.changes.notify()

    async def time_passed(self) -> None:
        """Judge what may have taken too long, and what no number of answers ends.

        A model on an event clock stands still with its data.
        """
        async with self.begin() as tx:
            running = sorted(await tx.steps_under_way())
        for model in running:
            if not await self.specs.event_clock(model):
                async with self.begin() as tx:
                    await self._judge(tx, model)
        self.changes.notify()

    async def _judge(self, tx: DeployerTx, model: str) -> None:
        """Decide about the model's rollout, if one is in a step that can end."""
        await tx.hold(model)
        rollout = await tx.in_flight(model)
        if rollout is None or rollout.epoch is None:
            return
        moment = await tx.moment(model, self.now(), self.partitions)
        measured, measures = await _measure(tx, rollout, moment)
        kept = measured.candidate.requests + measured.champion.requests
        await tx.keep_measured(rollout, measures, moment.as_of, kept=kept)
        decision = rollouts.decide(rollout.state, measured, rollout.spec.spec.rollout)
        if decision is None:
            return
        with span(
            "rollout.decided",
            parent=rollout.cause.traceparent,
            model=model,
            version=rollout.version,
        ):
            await tx.take(rollout, decision, measures, moment)


async def _void(tx: DeployerTx, event: VersionApproved) -> str | None:
    """Return why an approval's comparison holds no more, or None while it does."""
    running = await tx.in_flight(event.model)
    if running is not None:
        return f"expected no rollout under way; found version {running.version}"
    answering = await tx.answering(event.model)
    if answering != event.champion_version:
        return (
            f"expected {_named(event.champion_version)} to answer, as when it was judged; "
            f"found {_named(answering)}"
        )
    return None


def _named(version: int | None) -> str:
    return "no version" if version is None else f"version {version}"


def read(batch: Batch[DeployerTx]) -> tuple[list[Answer], list[Marker]]:
    """Take a batch of the prediction log apart; what is no prediction counts for nothing.

    `validation` keeps it.
    """
    decode = msgspec.json.Decoder(Answer).decode
    answers: list[Answer] = []
    markers: dict[tuple[str, int], Marker] = {}
    for part in batch.slices:
        for record in part.records:
            if record.value is None:
                continue
            try:
                if is_marker(record):
                    told = WatermarkAdvanced.model_validate_json(record.value, extra="ignore")
                    markers[told.subject, part.partition] = Marker(
                        told.subject, part.partition, told.event_time.astimezone(UTC)
                    )
                else:
                    answers.append(decode(record.value))
            except (ValueError, OverflowError):  # of msgspec, of pydantic, of time zones
                log.warning(
                    "prediction.malformed", partition=part.partition, offset=record.offset
                )
    return answers, list(markers.values())


def _counts(answer: Answer, running: Mapping[str, Step]) -> bool:
    """True when an answer was given in its model's present step, and is kept of it."""
    step = running.get(answer.model)
    return step is not None and step.epoch == answer.epoch and step.keeps(answer.request_id)


def _observation(answer: Answer) -> Observation:
    failed = sum(probability is None for probability in answer.probabilities)
    known = [each for each in answer.probabilities if each is not None]
    score = sum(known) / len(known) if known and not failed else None
    return Observation(
        model=answer.model,
        request_id=answer.request_id,
        role=answer.role,
        epoch=answer.epoch,
        version=answer.version,
        rows=len(answer.probabilities),
        failed_rows=failed,
        latency_us=answer.latency_us,
        score=score if score is not None and math.isfinite(score) else None,
        block=_block(answer),
    )


def _block(answer: Answer) -> int:
    """Return a number for the entity asked about first, as the gateway routes by it.

    Not the key itself: it may be about somebody.
    """
    key = next(filter(None, answer.entity_keys), None)
    return zlib.crc32((key or str(answer.request_id)).encode())


async def _measure(
    tx: DeployerTx, rollout: StoredRollout, moment: Moment
) -> tuple[Measured, Measures]:
    """Sum up what both versions answered under the rollout's present epoch."""
    assert rollout.epoch is not None and rollout.previous is not None  # noqa: S101, PT018
    model, epoch = rollout.model, rollout.epoch
    shadow = rollout.state.stage is Stage.SHADOW
    # Live, the gateway logs a request that another version answered as a failed shadow.
    mine, its = (Role.SHADOW, Role.LIVE) if shadow else (None, None)
    candidate = await tx.observed(model, rollout.version, epoch, mine)
    champion = await tx.observed(model, rollout.previous, epoch, its)
    paired = None
    if shadow:
        paired = await tx.score_differences(model, rollout.version, rollout.previous, epoch)
    elapsed_s = 0.0
    if rollout.since is not None and moment.as_of is not None:
        elapsed_s = (moment.as_of - rollout.since).total_seconds()
    return compare(champion, candidate, paired=paired, elapsed_s=elapsed_s)
