"""What a report must show for the loop to count as closed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from gyral.client.errors import ClientError
from gyral.client.report.content import WHOLE


@dataclass(frozen=True, slots=True)
class Limits:
    """Least and most of each figure."""

    gain: float
    lower95: float
    auc_gain: float
    least_promotions: int
    most_promotions: int


class _Gain(msgspec.Struct):
    mean: float | None
    lower95: float | None


class _Promotion(msgspec.Struct):
    version: int
    by_monitor: bool
    passing_verdict: bool


class _Trace(msgspec.Struct):
    services: list[str]


class Figures(msgspec.Struct):
    """The part of report.json that limits are set for."""

    log_loss_gain: _Gain
    auc: Mapping[str, float | None]
    promotions: int
    promoted: list[_Promotion]
    rejections: int
    why_no_rejection: str | None
    invariants: Mapping[str, int]
    trace: _Trace | None


def read(path: Path) -> Figures:
    """Return the figures of a report.json.

    Raises:
        ClientError: it is none.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Figures)
    except (OSError, msgspec.DecodeError) as error:
        raise ClientError(f"{path}: expected a report of `gyral replay`: {error}") from error


def missed(figures: Figures, limits: Limits) -> Sequence[str]:
    """Return a line for each limit that the figures miss."""
    gain = figures.log_loss_gain
    auc = _difference(figures.auc.get("loop"), figures.auc.get("frozen"))
    count = figures.promotions
    least, most = limits.least_promotions, limits.most_promotions
    traced = set(figures.trace.services) if figures.trace else set[str]()
    checks = (
        (
            _least(gain.mean, limits.gain),
            f"log-loss gain {gain.mean}; wanted at least {limits.gain}",
        ),
        (
            gain.lower95 is not None and gain.lower95 > limits.lower95,
            f"log-loss gain's lower bound {gain.lower95}; wanted above {limits.lower95}",
        ),
        (_least(auc, limits.auc_gain), f"AUC gain {auc}; wanted at least {limits.auc_gain}"),
        (least <= count <= most, f"{count} promotions; wanted {least} to {most}"),
        (
            all(each.by_monitor and each.passing_verdict for each in figures.promoted),
            "promotions without a monitor's request or a passing verdict; wanted none",
        ),
        (
            bool(figures.rejections or figures.why_no_rejection),
            "neither a rejection nor a challenger that passed every gate; wanted one",
        ),
        (
            traced >= WHOLE,
            f"no trace to a route, but spans of {sorted(traced)}; wanted {sorted(WHOLE)}",
        ),
        *(
            (count == 0, f"invariant {name}: {count} violations; wanted none")
            for name, count in figures.invariants.items()
        ),
    )
    return [f"found {line}" for kept, line in checks if not kept]


def _least(value: float | None, least: float) -> bool:
    return value is not None and value >= least


def _difference(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else first - second
