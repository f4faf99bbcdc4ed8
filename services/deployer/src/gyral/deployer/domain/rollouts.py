"""A rollout as a pure state machine: (state, measured, rules) to the next decision.

warming -> shadow -> canary[0] -> ... -> completed, or aborted from anywhere; an operator may
roll a completed one back. In place of canary steps a version may share the requests at a fixed
weight until an operator decides. No data is not success: a step that lacks its share of rows
is extended once, then aborted, unless chance explains it, and a step that takes too long is
aborted too. A paused rollout still ends at once where it must.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from gyral.contracts.specs.document import duration_seconds
from gyral.contracts.specs.model import Approval, Rollout
from gyral.modelling.sequences import Interval, rate_difference_sequence, rate_sequence


class Stage(StrEnum):
    """Where a rollout stands."""

    WARMING = "warming"
    SHADOW = "shadow"
    CANARY = "canary"
    AB = "ab"
    """It has a fixed share of the requests until an operator decides."""
    COMPLETED = "completed"
    ABORTED = "aborted"
    ROLLED_BACK = "rolled_back"
    """It had completed, and the version before it answers again."""


@dataclass(frozen=True, slots=True)
class State:
    """One rollout between two decisions."""

    stage: Stage
    step: int = 0
    """Index of the canary step."""
    extended: bool = False
    """The step has been given its rows a second time."""
    paused: bool = False
    """An operator holds it in its step."""
    awaiting: bool = False
    """Its shadow is over, and an operator must approve."""

    @property
    def ended(self) -> bool:
        """True when it is under way no more."""
        return self.stage in (Stage.COMPLETED, Stage.ABORTED, Stage.ROLLED_BACK)


@dataclass(frozen=True, slots=True)
class Arm:
    """What one version did in the present step."""

    rows: int = 0
    requests: int = 0
    failed_rows: int = 0
    failed_requests: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """What both versions did in the present step; rows are rows answered by the model."""

    champion: Arm
    candidate: Arm
    p99_ratio_lower: float | None = None
    """Lower confidence bound of candidate's p99 over champion's; None below 500 requests an
    arm."""
    score_shift: Interval | None = None
    """Bounds, at every time at once, of the candidate's mean score minus the champion's."""
    elapsed_s: float = 0.0
    """How long the step has taken, on the model's clock."""


@dataclass(frozen=True, slots=True)
class Advance:
    """The step is passed."""

    state: State


@dataclass(frozen=True, slots=True)
class Extend:
    """The step gets its rows once more: the candidate had too small a share."""

    state: State


@dataclass(frozen=True, slots=True)
class Await:
    """The shadow is passed, and an operator must approve what comes next."""

    state: State


@dataclass(frozen=True, slots=True)
class Abort:
    """The version is taken back."""

    state: State
    reason: str


Decision = Advance | Extend | Await | Abort | None
"""None: the step goes on."""


def weight(state: State, rules: Rollout) -> int:
    """Return the percent of requests the candidate answers in this state."""
    if state.stage is Stage.COMPLETED:
        return 100
    if state.stage is Stage.AB:
        return rules.ab or 0
    return rules.canary[state.step] if state.stage is Stage.CANARY else 0


def warmed(rules: Rollout, *, bootstrap: bool) -> State:
    """Return where a version goes once the runtime holds it and its golden rows agree."""
    if bootstrap:
        return State(Stage.COMPLETED)
    return State(Stage.SHADOW) if rules.shadow else _after_shadow(rules)


def decide(state: State, measured: Measured, rules: Rollout) -> Decision:
    """Judge the present step by what was measured in it."""
    if state.ended or state.stage is Stage.WARMING:
        return None
    if reason := _hard_stop(measured, rules):
        return Abort(replace(state, stage=Stage.ABORTED), reason)
    if state.paused:
        return None
    needed = _needed(state, rules)
    rows = _rows(state, measured)
    if needed is not None and rows >= needed:
        return _finish_step(state, measured, rules, rows)
    return _too_late(state, measured, rules, rows, needed)


def approved(rules: Rollout) -> State:
    """Return where a version goes that an operator approved after its shadow."""
    return _after_shadow(rules)


def _needed(state: State, rules: Rollout) -> int | None:
    """Return the rows that end the step; None where an operator does."""
    if state.awaiting or state.stage is Stage.AB:
        return None
    rows = rules.shadow if state.stage is Stage.SHADOW else rules.per_step
    return rows * (2 if state.extended else 1)


def _too_late(
    state: State, measured: Measured, rules: Rollout, rows: int, needed: int | None
) -> Abort | None:
    """Take back a version whose step got no end in time, by data or by an operator."""
    if measured.elapsed_s <= duration_seconds(rules.step_limit):
        return None
    wanted = "an operator's word" if needed is None else f"{needed} rows"
    found = "none" if needed is None else rows
    return Abort(
        replace(state, stage=Stage.ABORTED),
        f"time: expected {wanted} within {rules.step_limit}; found {found}",
    )


def _finish_step(state: State, measured: Measured, rules: Rollout, rows: int) -> Decision:
    """Judge a step that has its rows: the candidate must have had its share of them."""
    expected = _least_share(state, rules, rows)
    if measured.candidate.rows >= expected:
        return _passed(state, rules)
    if not state.extended:
        return Extend(replace(state, extended=True))
    if _by_chance(state, measured, rules):
        return _passed(state, rules)
    return Abort(
        replace(state, stage=Stage.ABORTED),
        f"too few rows: expected at least {expected:.0f} of the candidate in {rows}; "
        f"found {measured.candidate.rows}",
    )


def _passed(state: State, rules: Rollout) -> Advance | Await:
    if state.stage is Stage.SHADOW and rules.approval is Approval.REQUIRED:
        return Await(replace(state, awaiting=True))
    return Advance(_next(state, rules))


def _rows(state: State, measured: Measured) -> int:
    """Rows answered by the model: in shadow the candidate only watches."""
    if state.stage is Stage.SHADOW:
        return measured.champion.rows
    return measured.champion.rows + measured.candidate.rows


def _least_share(state: State, rules: Rollout, rows: int) -> float:
    """Half of what the candidate should have had; a shadow should have had every row."""
    expected = 100 if state.stage is Stage.SHADOW else weight(state, rules)
    return rows * expected / 200


def _by_chance(state: State, measured: Measured, rules: Rollout) -> bool:
    """True when a small share of requests may still be luck: whole requests are routed, by key.

    A rollout looks at its step again and again, so the bound holds at every look.
    """
    candidate = measured.candidate.requests
    if state.stage is not Stage.CANARY or candidate == 0:
        return False
    total = candidate + measured.champion.requests
    return rate_sequence(candidate, total).upper >= weight(state, rules) / 100


def _hard_stop(measured: Measured, rules: Rollout) -> str | None:
    """Return why the rollout must end at once, or None."""
    candidate, limits = measured.candidate, rules.abort_if
    if candidate.rows and candidate.failed_rows / candidate.rows > limits.error_rate:
        return (
            f"error rate: expected at most {limits.error_rate:.2%}; found "
            f"{candidate.failed_rows / candidate.rows:.2%} of {candidate.rows} rows"
        )
    return _more_errors(measured) or _slower(measured, rules) or _elsewhere(measured, rules)


def _more_errors(measured: Measured) -> str | None:
    """Whole requests fail, so requests are what is independent."""
    candidate, champion = measured.candidate, measured.champion
    if not candidate.failed_requests:
        return None
    more = rate_difference_sequence(
        (candidate.failed_requests, candidate.requests),
        (champion.failed_requests, champion.requests),
    )
    if more.lower <= 0.0:
        return None
    return (
        f"errors: expected no more than the champion's {champion.failed_requests} of "
        f"{champion.requests} requests; found {candidate.failed_requests} of "
        f"{candidate.requests}"
    )


def _elsewhere(measured: Measured, rules: Rollout) -> str | None:
    shift, limit = measured.score_shift, rules.abort_if.score_shift
    if shift is None or (-limit <= shift.upper and shift.lower <= limit):
        return None
    return (
        f"scores: expected a mean within {limit:g} of the champion's; found it apart by "
        f"{shift.lower:+.3f} to {shift.upper:+.3f}"
    )


def _slower(measured: Measured, rules: Rollout) -> str | None:
    limits = rules.abort_if
    lower = measured.p99_ratio_lower
    if lower is not None and lower > limits.p99_ratio:
        return (
            f"latency: expected a p99 ratio of at most {limits.p99_ratio:g}; "
            f"found at least {lower:.2f}"
        )
    return None


def _next(state: State, rules: Rollout) -> State:
    if state.stage is Stage.SHADOW:
        return _after_shadow(rules)
    return _canary(state.step + 1, rules)


def _after_shadow(rules: Rollout) -> State:
    return State(Stage.AB) if rules.ab is not None else _canary(0, rules)


def _canary(step: int, rules: Rollout) -> State:
    """Return a canary step.

    The one that answers everything has nothing left to compare and completes.
    """
    if step >= len(rules.canary) or rules.canary[step] == 100:  # noqa: PLR2004 - percent
        return State(Stage.COMPLETED)
    return State(Stage.CANARY, step)
