"""Whether a closed block calls for a training: detectors, triggers, their one request."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from gyral.contracts.specs.model import Trigger
from gyral.contracts.training import Cause
from gyral.modelling.detectors import (
    Cusum,
    CusumState,
    ExcessBaseline,
    ExcessEvidence,
    ExcessLoss,
    ExcessState,
    LossBaseline,
)
from gyral.monitor.domain.measuring import Quality, Shift
from gyral.monitor.domain.watches import Watch, micros, to_datetime

Evidence = Mapping[str, float | int | str | None]
_NAMESPACE = uuid.UUID("0d9c3a52-4b55-5f0e-9c53-6f2a5c1f8a11")
_DRIFTED_IN_A_ROW = 2


@dataclass(frozen=True, slots=True)
class Detectors:
    """The states of one champion's detectors after its blocks so far."""

    cusum: CusumState = field(default_factory=CusumState)
    excess: ExcessState = field(default_factory=ExcessState)
    drifted: int = 0
    """Windows in a row whose inputs were off."""


@dataclass(frozen=True, slots=True)
class Block:
    """A closed block, measured."""

    start_us: int
    end_us: int
    quality: Quality
    shift: Shift
    baseline: LossBaseline | None
    """The champion's normal block losses; None when its profile has none."""
    usual_excess: ExcessBaseline
    """What the champion's training blocks showed of excess loss."""
    schedule_from_us: int
    """First champion, or the block end at which the timer asked last."""
    rows_since_training: int
    """Labelled rows since the champion's training data, this block's included."""


@dataclass(frozen=True, slots=True)
class Alarm:
    """A label-based detector that stands in alarm."""

    detector: Cause
    measured: float
    threshold: float


@dataclass(frozen=True, slots=True)
class Request:
    """One training asked for."""

    request_id: str
    cause: Cause
    as_of_us: int
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Judgement:
    """What follows from a block."""

    detectors: Detectors
    z: float | None
    excess: ExcessEvidence
    alarms: tuple[Alarm, ...]
    drifted: bool
    """Inputs were off in at least two windows in a row: a warning."""
    request: Request | None
    scheduled: bool
    """The timer was among the causes."""


def judge(watch: Watch, before: Detectors, block: Block) -> Judgement:
    """Step the detectors over a block and decide whether it asks for a training.

    A block with fewer labelled rows than `min_rows` moves no detector; an alarm that stands
    asks again all the same.
    """
    z = _z(block)
    after = _step(watch, before, block, z)
    excess = _excess(watch, block)
    found = excess.evidence(after.excess)
    fired = [cause for it in watch.triggers if (cause := _cause(it, after, block)) is not None]
    alarms = tuple(
        alarm for it in watch.triggers if (alarm := _alarm(it, after, block)) is not None
    )
    judged = Judgement(
        detectors=after,
        z=z,
        excess=found,
        alarms=alarms,
        drifted=after.drifted >= _DRIFTED_IN_A_ROW and _drifts(block),
        request=None,
        scheduled=Cause.SCHEDULE in fired,
    )
    return replace(judged, request=_request(watch, block, judged, fired)) if fired else judged


def request_id(model: str, cause: Cause, as_of_us: int) -> str:
    """Return the id of a request: one block, one cause, one request."""
    return str(uuid.uuid5(_NAMESPACE, f"{model}/{cause}/{as_of_us}"))


def _z(block: Block) -> float | None:
    if block.baseline is None or block.quality.log_loss is None:
        return None
    return block.baseline.z(block.quality.log_loss)


def _step(watch: Watch, before: Detectors, block: Block, z: float | None) -> Detectors:
    drifted = before.drifted
    if block.shift.features is not None:
        drifted = drifted + 1 if _drifts(block) else 0
    after = replace(before, drifted=drifted)
    if block.quality.labelled_rows < watch.min_rows:
        return after
    if block.quality.excess_loss is not None:
        after = replace(
            after, excess=_excess(watch, block).step(before.excess, block.quality.excess_loss)
        )
    if z is not None:
        after = replace(after, cusum=_cusum(watch).step(before.cusum, z))
    return after


def _drifts(block: Block) -> bool:
    return block.shift.features is not None and block.shift.features.drifted


def _cusum(watch: Watch) -> Cusum:
    """The declared detector, or the default one: a model without triggers is measured too."""
    given = next((it.cusum for it in watch.triggers if it.cusum), None)
    return Cusum(given.k, given.h) if given else Cusum()


def _excess(watch: Watch, block: Block) -> ExcessLoss:
    given = next((it.excess_loss for it in watch.triggers if it.excess_loss), None)
    if given is None:
        return ExcessLoss(baseline=block.usual_excess)
    return ExcessLoss(given.above, given.window, given.t, block.usual_excess)


def _alarm(trigger: Trigger, after: Detectors, block: Block) -> Alarm | None:
    if trigger.excess_loss is not None:
        declared = trigger.excess_loss
        excess = ExcessLoss(declared.above, declared.window, declared.t, block.usual_excess)
        if excess.alarms(after.excess):
            return Alarm(Cause.EXCESS_LOSS, excess.evidence(after.excess).mean, declared.above)
    if trigger.cusum is not None and Cusum(trigger.cusum.k, trigger.cusum.h).alarms(
        after.cusum
    ):
        return Alarm(Cause.CUSUM, after.cusum.value, trigger.cusum.h)
    return None


def _cause(trigger: Trigger, after: Detectors, block: Block) -> Cause | None:
    """Return why this trigger asks for a training at this block, or None."""
    alarm = _alarm(trigger, after, block)
    if alarm is not None:
        return alarm.detector
    if trigger.schedule is not None:
        due_us = block.schedule_from_us + micros(trigger.schedule.every)
        return Cause.SCHEDULE if block.end_us >= due_us else None
    if trigger.rows is not None and block.rows_since_training >= trigger.rows:
        return Cause.ROWS
    return None


def _request(watch: Watch, block: Block, judged: Judgement, fired: list[Cause]) -> Request:
    as_of_us = block.end_us + watch.horizon_us
    cause, others = fired[0], fired[1:]
    return Request(
        request_id=request_id(watch.model, cause, as_of_us),
        cause=cause,
        as_of_us=as_of_us,
        evidence={
            "window_start": to_datetime(block.start_us).isoformat(),
            "window_end": to_datetime(block.end_us).isoformat(),
            "labelled_rows": block.quality.labelled_rows,
            "log_loss": block.quality.log_loss,
            "z": judged.z,
            "cusum": judged.detectors.cusum.value,
            "cusum_threshold": _cusum(watch).h,
            "excess_mean": judged.excess.mean,
            "excess_t": judged.excess.t,
            "excess_usual": block.usual_excess.mean,
            "excess_threshold": _excess(watch, block).above,
            "rows_since_training": block.rows_since_training,
            "drift_max_z": block.shift.features.max_z if block.shift.features else None,
            "other_causes": ",".join(others),
        },
    )
