"""A replay as one document: what report.json holds, and what a terminal shows of it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime

from gyral.client.audit.findings import Finding
from gyral.client.replay.history import Trigger
from gyral.client.replay.playing import Replayed
from gyral.client.replay.variants import Variant
from gyral.client.report import statistics
from gyral.client.report.closing import CLOSING, TRAINING, Closed, summed_up
from gyral.client.report.promotions import Promotion
from gyral.client.report.statistics import Gain, Summary

JsonObject = Mapping[str, object]
WHOLE = frozenset({"monitor", "trainer", "registry", "deployer"})
"""Whose spans lead from an alarm to the route it changed; the gateway only reads that route."""
_SCORES = ("log_loss", "auc", "ece")


@dataclass(frozen=True, slots=True)
class Trace:
    """The trace of a request for training, as far as its spans were found."""

    trace_id: str
    services: Sequence[str] = ()
    spans: int = 0

    @property
    def whole(self) -> bool:
        """True when it leads from an alarm to the route it changed."""
        return set(self.services) >= WHOLE


@dataclass(frozen=True, slots=True)
class Report:
    """Everything a replay showed."""

    model: str
    replayed: Replayed
    overall: Summary
    months: Mapping[str, Summary]
    loop_gain: Gain
    timer_gain: Gain
    findings: Sequence[Finding]
    promotions: Sequence[Promotion]
    """Of the loop, oldest first."""
    closed: Sequence[Closed]
    trace: Trace | None
    wall_s: float

    @property
    def holds(self) -> bool:
        """True when no invariant is violated."""
        return all(finding.violations == 0 for finding in self.findings)

    @property
    def rejections(self) -> Sequence[Trigger]:
        """Challengers of the loop that failed a gate."""
        return [each for each in self.triggers if each.outcome == "rejected"]

    @property
    def triggers(self) -> Sequence[Trigger]:
        """Requests for training of the loop, oldest first."""
        found = [
            each for each in self.replayed.history.triggers if each.variant is Variant.LOOP
        ]
        return sorted(found, key=lambda each: each.as_of)

    def taken_over(self, promotion: Promotion) -> datetime | None:
        """Return the end of the day a promotion was seen on; else what it was trained for."""
        seen = [
            move.event_time
            for move in self.replayed.history.moves
            if (move.variant, move.version) == (Variant.LOOP, promotion.version)
            and move.stage == "completed"
        ]
        return seen[-1] if seen else promotion.as_of

    def json(self) -> JsonObject:
        """Return report.json."""
        replayed, history = self.replayed, self.replayed.history
        return {
            "model": self.model,
            "rows": self.overall.rows,
            **{name: getattr(self.overall, name) for name in _SCORES},
            "log_loss_gain": asdict(self.loop_gain),
            "log_loss_gain_timer": asdict(self.timer_gain),
            "months": [
                {"month": month, **asdict(scores)} for month, scores in self.months.items()
            ],
            "triggers": [asdict(each) for each in self.triggers],
            "promotions": len(self.promotions),
            "promoted": [self._promotion(each) for each in self.promotions],
            "rejections": len(self.rejections),
            "rejected": [asdict(each) for each in self.rejections],
            "why_no_rejection": self._why_no_rejection(),
            "rollouts": [asdict(move) for move in history.moves],
            "timer": {
                "triggers": [
                    asdict(each) for each in history.triggers if each.variant is Variant.TIMER
                ]
            },
            "closing_latency_s": summed_up(CLOSING, [each.closing_s for each in self.closed]),
            "training_s": summed_up(TRAINING, [each.training_s for each in self.closed]),
            "records_per_s": _rate(replayed.tally.records, replayed.tally.records_s),
            "predictions_per_s": _rate(
                replayed.tally.predictions, replayed.tally.predictions_s
            ),
            "records": replayed.tally.records,
            "predictions": replayed.tally.predictions,
            "retried": replayed.retried,
            "invariants": {each.name: each.violations for each in self.findings},
            "violations": {
                each.name: list(each.examples) for each in self.findings if each.examples
            },
            "trace_id": self.trace.trace_id if self.trace else None,
            "trace": asdict(self.trace) if self.trace else None,
            "bootstrap_s": replayed.bootstrap_s,
            "replay_s": replayed.replay_s,
            "wall_s": self.wall_s,
        }

    def lines(self) -> Sequence[str]:
        """Return what a terminal shows."""
        head = f"{'month':<9}{'rows':>8}  " + "  ".join(
            f"{name} {variant:<6}" for name in ("log-loss", "auc") for variant in Variant
        )
        body = [
            f"{month:<9}{scores.rows:>8}  "
            + "  ".join(
                [f"{_shown(scores.log_loss[each]):>15}" for each in Variant]
                + [f"{_shown(scores.auc[each]):>10}" for each in Variant]
            )
            for month, scores in [*self.months.items(), ("all", self.overall)]
        ]
        gain = self.loop_gain
        violated = [each.name for each in self.findings if each.violations]
        gained = (
            f"log-loss gain of loop over frozen {_shown(gain.mean)}, "
            f"95 % lower bound {_shown(gain.lower95)} over {gain.weeks} weeks"
        )
        counts = (
            f"{len(self.triggers)} requests, {len(self.promotions)} promotions, "
            f"{len(self.rejections)} rejections; {self.wall_s:.0f} s in all"
        )
        return [
            head,
            *body,
            "",
            gained,
            counts,
            f"invariants violated: {', '.join(violated) or 'none'}",
        ]

    def _promotion(self, promotion: Promotion) -> JsonObject:
        evidence = {each.request_id: each.evidence for each in self.triggers}
        return {
            **asdict(promotion),
            "event_time": self.taken_over(promotion),
            "evidence": dict(evidence.get(promotion.request_id or "", {})),
        }

    def _why_no_rejection(self) -> str | None:
        """Return why none was rejected; None when one was, and when none was judged."""
        counts = {
            word: sum(each.outcome == word for each in self.triggers)
            for word in ("approved", "suppressed", "failed", "cancelled")
        }
        judged = counts.pop("approved")
        if self.rejections or not judged:
            return None
        others = ", ".join(f"{count} {word}" for word, count in counts.items())
        return f"each of the {judged} challengers judged passed every gate; unjudged: {others}"


def content(
    replayed: Replayed,
    findings: Sequence[Finding],
    promotions: Sequence[Promotion],
    closed: Sequence[Closed],
    *,
    trace: Trace | None,
    wall_s: float,
) -> Report:
    """Return the report of a replay."""
    days = replayed.schedule.days
    rows = statistics.scored(
        replayed.source.times_us,
        replayed.positive,
        replayed.labelled,
        replayed.answers.probability,
        slice(days[0].rows.start, days[-1].rows.stop),
    )
    return Report(
        replayed.models[Variant.LOOP],
        replayed,
        statistics.summary(rows),
        statistics.by_month(rows),
        statistics.gain(rows, Variant.FROZEN, Variant.LOOP),
        statistics.gain(rows, Variant.FROZEN, Variant.TIMER),
        findings,
        promotions,
        closed,
        trace,
        wall_s,
    )


def _rate(count: int, seconds: float) -> float:
    return count / seconds if seconds else 0.0


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
