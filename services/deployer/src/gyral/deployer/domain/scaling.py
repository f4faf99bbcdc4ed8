"""How many runtimes a group should have: out within seconds, in slowly, to none when idle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gyral.deployer.domain.demand import Second

_GAP_S = 2
"""Seconds that may lie between two reports of one stretch."""
_CALM = 0.5
"""Share of the queue's limit under which those that stay must be."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Between what a group is scaled, and by what."""

    min: int
    max: int
    queue_s: float
    idle_s: float = float("inf")
    """Time without a request after which the last runtime ends, where `min` is 0."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long what was measured must last."""

    out_s: float
    """Before a runtime is added."""
    in_s: float
    """Before one is taken away."""


@dataclass(frozen=True, slots=True)
class Standing:
    """How a group stands."""

    replicas: int
    """That are wanted."""
    there: int
    """That are ready."""
    for_s: float
    """Since their number changed."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What is known of what a group was asked."""

    seen: Sequence[Second]
    now: float
    began: float
    """Since when every gateway was heard without a gap."""
    until: float
    """Up to when every gateway has told: silence is no calm."""
    idle_since: float


@dataclass(frozen=True, slots=True)
class Scaled:
    """Another number, and why."""

    after: int
    why: str
    measured: Mapping[str, float | int | None]


def decide(standing: Standing, limits: Limits, heard: Heard, pace: Pace) -> Scaled | None:
    """Return the number of runtimes that is wanted instead, or None while it is right.

    Nothing is added while one that was added is not there yet: it may be all that is missing.
    """
    replicas = standing.replicas
    if replicas > limits.max or replicas < limits.min:
        return _declared(replicas, limits)
    if replicas == 0:
        return _woken(heard)
    if _pressed(limits, heard, pace):
        room = replicas < limits.max and standing.there >= replicas
        return _out(replicas, limits, heard, pace) if room else None
    return _idle(standing, limits, heard) or _in(standing, limits, heard, pace)


def _declared(replicas: int, limits: Limits) -> Scaled:
    after = min(max(replicas, limits.min), limits.max)
    why = f"declared: expected {limits.min} to {limits.max} runtimes; found {replicas} wanted"
    return Scaled(after, why, {})


def _idle(standing: Standing, limits: Limits, heard: Heard) -> Scaled | None:
    idle_s = heard.until - heard.idle_since
    if limits.min > 0 or min(idle_s, standing.for_s) < limits.idle_s:
        return None
    why = f"idle: expected a request within {limits.idle_s:g} s; found none"
    return Scaled(0, why, {"idle_s": round(idle_s, 3)})


def _in(standing: Standing, limits: Limits, heard: Heard, pace: Pace) -> Scaled | None:
    if standing.replicas <= max(limits.min, 1) or not _calm(standing, limits, heard, pace):
        return None
    busiest = max((each.queue_mean_s for each in _lately(heard, pace)), default=0.0)
    why = f"calm: found at most {busiest:.3g} s in the queue for {pace.in_s:g} s"
    return Scaled(standing.replicas - 1, why, {"queue_mean_s": round(busiest, 6)})


def _woken(heard: Heard) -> Scaled | None:
    last = heard.seen[-1] if heard.seen else None
    if last is None or heard.now - last.at > _GAP_S or not last.asked:
        return None
    measured = {"waiting": last.waiting, "requests": last.requests}
    return Scaled(1, f"woken: found {last.waiting + last.requests} requests", measured)


def _pressed(limits: Limits, heard: Heard, pace: Pace) -> bool:
    """True when each second of the last stretch was too much, and that for long enough."""
    newest: Second | None = None
    oldest: Second | None = None
    for each in reversed(heard.seen):
        if (oldest.at if oldest else heard.now) - each.at > _GAP_S:
            break
        if not each.refused and each.queue_mean_s <= limits.queue_s:
            break
        newest, oldest = newest or each, each
    return (
        newest is not None
        and oldest is not None
        and newest.at - oldest.at + 1 >= max(1.0, pace.out_s)
    )


def _out(replicas: int, limits: Limits, heard: Heard, pace: Pace) -> Scaled:
    last = heard.seen[-1]
    why = (
        f"queue: expected at most {limits.queue_s:g} s and no refusals; found "
        f"{last.queue_mean_s:.3g} s and {last.refused} refused, for {pace.out_s:g} s"
    )
    measured = {
        "queue_mean_s": round(last.queue_mean_s, 6),
        "queue_max_s": round(last.queue_max_s, 6),
        "requests": last.requests,
        "refused": last.refused,
    }
    return Scaled(replicas + 1, why, measured)


def _calm(standing: Standing, limits: Limits, heard: Heard, pace: Pace) -> bool:
    """True when one less would have done all the while, as far as queues tell."""
    if min(standing.for_s, heard.until - heard.began) < pace.in_s:
        return False
    if standing.there < standing.replicas:
        return False
    grown = standing.replicas / (standing.replicas - 1)
    return all(
        not each.refused
        and not each.waiting
        and each.queue_mean_s * grown <= limits.queue_s * _CALM
        for each in _lately(heard, pace)
    )


def _lately(heard: Heard, pace: Pace) -> list[Second]:
    """Return the seconds that must have been calm."""
    return [each for each in heard.seen if each.at > heard.until - pace.in_s]
