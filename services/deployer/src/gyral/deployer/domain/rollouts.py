"""A rollout as a pure state machine: (state, measured, rules) to the next decision.

warming -> shadow -> canary[0] -> ... -> completed, or aborted from anywhere; an operator may
roll a completed one back. No data is not success: a step that lacks its share of rows is
extended once, then aborted, unless chance explains it. A paused rollout still ends at once
where it must.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from gyral.contracts.specs.model import Rollout
from gyral.modelling.sequences import rate_sequence


class Stage(StrEnum):
    """Where a rollout stands."""

    WARMING = "warming"
    SHADOW = "shadow"
    CANARY = "canary"
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


@dataclass(frozen=True, slots=True)
class Measured:
    """What both versions did in the present step; rows are rows answered by the model."""

    champion: Arm
    candidate: Arm
    p99_ratio_lower: float | None = None
    """Lower confidence bound of candidate's p99 over champion's; None below 500 requests an
    arm."""


@dataclass(frozen=True, slots=True)
class Advance:
    """The step is passed."""

    state: State


@dataclass(frozen=True, slots=True)
class Extend:
    """The step gets its rows once more: the candidate had too small a share."""

    state: State


@dataclass(frozen=True, slots=True)
class Abort:
    """The version is taken back."""

    state: State
    reason: str


Decision = Advance | Extend | Abort | None
"""None: the step goes on."""


def weight(state: State, rules: Rollout) -> int:
    """Return the percent of requests the candidate answers in this state."""
    if state.stage is Stage.COMPLETED:
        return 100
    return rules.canary[state.step] if state.stage is Stage.CANARY else 0


def warmed(rules: Rollout, *, bootstrap: bool) -> State:
    """Return where a version goes once the runtime holds it and its golden rows agree."""
    if bootstrap:
        return State(Stage.COMPLETED)
    return State(Stage.SHADOW) if rules.shadow else _canary(0, rules)


def decide(state: State, measured: Measured, rules: Rollout) -> Decision:
    """Judge the present step by what was measured in it."""
    if state.ended or state.stage is Stage.WARMING:
        return None
    if reason := _hard_stop(measured, rules):
        return Abort(replace(state, stage=Stage.ABORTED), reason)
    if state.paused:
        return None
    needed = rules.shadow if state.stage is Stage.SHADOW else rules.per_step
    rows = _rows(state, measured)
    if rows < needed * (2 if state.extended else 1):
        return None
    return _finish_step(state, measured, rules, rows)


def _finish_step(state: State, measured: Measured, rules: Rollout, rows: int) -> Decision:
    """Judge a step that has its rows: the candidate must have had its share of them."""
    expected = _least_share(state, rules, rows)
    if measured.candidate.rows >= expected:
        return Advance(_next(state, rules))
    if not state.extended:
        return Extend(replace(state, extended=True))
    if _by_chance(state, measured, rules):
        return Advance(_next(state, rules))
    return Abort(
        replace(state, stage=Stage.ABORTED),
        f"too few rows: expected at least {expected:.0f} of the candidate in {rows}; "
        f"found {measured.candidate.rows}",
    )


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
    lower = measured.p99_ratio_lower
    if lower is not None and lower > limits.p99_ratio:
        return (
            f"latency: expected a p99 ratio of at most {limits.p99_ratio:g}; "
            f"found at least {lower:.2f}"
        )
    return None


def _next(state: State, rules: Rollout) -> State:
    if state.stage is Stage.SHADOW:
        return _canary(0, rules)
    return _canary(state.step + 1, rules)


def _canary(step: int, rules: Rollout) -> State:
    """Return a canary step.

    The one that answers everything has nothing left to compare and completes.
    """
    if step >= len(rules.canary) or rules.canary[step] == 100:  # noqa: PLR2004 - percent
        return State(Stage.COMPLETED)
    return State(Stage.CANARY, step)
