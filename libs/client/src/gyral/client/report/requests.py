"""Requests for training in words: how many came to what, and why each was made."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from gyral.client.replay.history import Trigger
from gyral.contracts.training import Cause, Suppression

Evidence = Mapping[str, float | str | None]
_WORDS: Mapping[str, str] = {
    Suppression.IN_FLIGHT: "while another was under way",
    Suppression.COOLDOWN: "while cooling down",
    Suppression.NO_DATA: "for want of data",
}
_ELSE = "for another reason"


@dataclass(slots=True)
class Asked:
    """A request that was looked into, and those that came to nothing because of it."""

    trigger: Trigger | None
    """None where the first version's training was under way."""
    suppressed: list[Trigger] = field(default_factory=list)

    def fold(self) -> str:
        """Return one line on the suppressed ones, or an empty one."""
        if not self.suppressed:
            return ""
        dates = [each.as_of for each in self.suppressed]
        shown = (
            day(dates[0]) if dates[0] == dates[-1] else f"{day(dates[0])} to {day(dates[-1])}"
        )
        counts = Counter(_why(each) for each in self.suppressed)
        words = [f"{count} {self._said(why)}" for why, count in counts.items()]
        if len(words) == 1:
            [(why, count)] = counts.items()
            return f"{count} more {self._said(why)} ({shown})"
        return f"{len(self.suppressed)} more ({shown}): {', '.join(words)}"

    def _said(self, why: str) -> str:
        if why == Suppression.IN_FLIGHT:
            version = self.trigger.version if self.trigger else None
            first = "that training" if self.trigger else "the first version"
            return f"while {f'v{version}' if version else first} was under way"
        return _WORDS.get(why, _ELSE)


def folded(triggers: Sequence[Trigger]) -> Sequence[Asked]:
    """Return requests, oldest first, each suppressed one with that which stood in its way."""
    found: list[Asked] = []
    for each in triggers:
        if each.outcome != "suppressed":
            found.append(Asked(each))
            continue
        if not found:
            found.append(Asked(None))
        found[-1].suppressed.append(each)
    return found


def evidence(cause: str, given: Evidence) -> str:
    """Return why a training was asked for: the alarm's number, its window and its rows."""
    parts = [_measured(cause, given), _window(given)]
    labels = given.get("labelled_rows")
    if isinstance(labels, float | int):
        parts.append(f"{labels:,.0f} labels")
    others = str(given.get("other_causes") or "")
    if others:
        parts.append(f"also {others.replace(',', ', ').replace('_', ' ')}")
    return "; ".join(part for part in parts if part)


def tally(triggers: Sequence[Trigger], promoted: Sequence[int]) -> str:
    """Return what became of all requests; `promoted` are versions that took over."""
    by_outcome = Counter(each.outcome for each in triggers)
    waiting = sum(
        each.outcome == "approved" and each.version not in promoted for each in triggers
    )
    parts = [
        counted(len(promoted), "promotion"),
        counted(by_outcome["rejected"], "rejection"),
        suppressions(triggers),
        f"{waiting} approved that did not take over" if waiting else "",
        *(f"{by_outcome[word]} {word}" for word in ("failed", "cancelled") if by_outcome[word]),
    ]
    asked = counted(len(triggers), "request for training", "requests for training")
    return f"{asked}: {', '.join(part for part in parts if part)}"


def suppressions(triggers: Sequence[Trigger]) -> str:
    """Return how many requests were suppressed and why, or nothing where none was."""
    reasons = Counter(_why(each) for each in triggers if each.outcome == "suppressed")
    if not reasons:
        return ""
    words = [f"{count} {_WORDS.get(why, _ELSE)}" for why, count in reasons.items()]
    return f"{reasons.total()} suppressed ({', '.join(words)})"


def counted(count: int, one: str, many: str = "") -> str:
    """Return a number with its noun, in the singular where it is one."""
    return f"{count} {noun(count, one, many)}"


def noun(count: int, one: str, many: str = "") -> str:
    """Return the noun that goes with a number."""
    return one if count == 1 else many or f"{one}s"


def day(time: datetime) -> str:
    """Return a date of a year that is known."""
    return f"{time.day} {time:%B}"


def _why(trigger: Trigger) -> str:
    return (trigger.reason or "").partition(":")[0]


def _measured(cause: str, given: Evidence) -> str:
    match cause:
        case Cause.CUSUM:
            return _over("CUSUM", given.get("cusum"), given.get("cusum_threshold"))
        case Cause.EXCESS_LOSS:
            said = _over("excess loss", given.get("excess_mean"), given.get("excess_threshold"))
            t = given.get("excess_t")
            return f"{said} (t = {t:.3g})" if said and isinstance(t, float) else said
        case Cause.ROWS | Cause.SCHEDULE:
            rows = given.get("rows_since_training")
            return f"{rows:,.0f} rows since training" if isinstance(rows, float | int) else ""
    return ""


def _over(name: str, measured: object, threshold: object) -> str:
    if not isinstance(measured, float | int):
        return ""
    over = f" over {threshold:.3g}" if isinstance(threshold, float | int) else ""
    return f"{name} {measured:.3g}{over}"


def _window(given: Evidence) -> str:
    try:
        start = datetime.fromisoformat(str(given.get("window_start")))
        end = datetime.fromisoformat(str(given.get("window_end")))
    except ValueError:
        return ""
    last = end - (end - start) / 10_000
    if start.date() == last.date():
        return f"window of {day(start)}"
    return f"window of {day(start)} to {day(last)}"
