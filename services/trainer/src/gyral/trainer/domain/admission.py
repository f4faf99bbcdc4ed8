"""Whether a request becomes a run: one in flight a model, and a cooldown in event time."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from gyral.contracts.training import Cause, Suppression

SKIP_COOLDOWN = frozenset({Cause.BOOTSTRAP, Cause.MANUAL, Cause.CODE, Cause.STALE_VERDICT})
"""Causes that are decisions: an alarm stands and asks again, a decision does not."""


ASKED_BLINDLY = frozenset({Cause.MANUAL, Cause.CODE})
"""Causes that need not have seen any data; whoever asks for another has, if before us."""


@dataclass(frozen=True, slots=True)
class InFlight:
    """The model's run that is not over, or whose version is judged or rolled out."""

    run_id: str
    succeeded: bool
    """It is trained: only its verdict or its rollout is awaited."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the trainer knows of a model when a request for it arrives."""

    declared: bool
    cooldown: timedelta
    missing_streams: tuple[str, ...]
    """Streams of the model without any committed dataset."""
    in_flight: InFlight | None
    last_admitted: datetime | None
    """`as_of` of the model's last admitted request, whatever came of it."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request becomes a run."""

    supersedes: str | None = None
    """Run whose verdict the request says is void, and which is therefore over."""


@dataclass(frozen=True, slots=True)
class Suppressed:
    """The request becomes no run."""

    why: Suppression
    detail: str


def admit(
    cause: Cause, as_of: datetime, known: Known, *, redo_of: str | None = None
) -> Admitted | Suppressed:
    """Decide on one request.

    Args:
        cause: why training is asked for.
        as_of: event time of the decision.
        known: the model as it stands.
        redo_of: run whose verdict went stale, for `Cause.STALE_VERDICT`.
    """
    if not known.declared:
        return Suppressed(
            Suppression.UNKNOWN_MODEL, "no declared model has this name; apply its spec first"
        )
    if known.missing_streams and cause in ASKED_BLINDLY:
        named = ", ".join(known.missing_streams)
        return Suppressed(
            Suppression.NO_DATA, f"no dataset was ever committed for stream {named}"
        )
    if known.in_flight is not None:
        # A stale verdict and the request to repeat the run are one decision on two topics:
        # either may come first.
        if (
            cause is Cause.STALE_VERDICT
            and known.in_flight.succeeded
            and redo_of == known.in_flight.run_id
        ):
            return Admitted(supersedes=redo_of)
        return Suppressed(Suppression.IN_FLIGHT, f"run {known.in_flight.run_id} is in flight")
    if cause not in SKIP_COOLDOWN and known.last_admitted is not None:
        return _cooled(as_of, known.last_admitted, known.cooldown)
    return Admitted()


def _cooled(as_of: datetime, last: datetime, cooldown: timedelta) -> Admitted | Suppressed:
    over = last + cooldown
    if as_of >= over:
        return Admitted()
    return Suppressed(
        Suppression.COOLDOWN,
        f"the last admitted request is as of {_text(last)}; the next may be from "
        f"{_text(over)} on",
    )


def _text(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")
