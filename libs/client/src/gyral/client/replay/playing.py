"""A whole replay: declare, bootstrap, then day by day send, ask, deliver, mark and wait."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

import numpy as np

from gyral.client import declaring, documents
from gyral.client.answers import Model
from gyral.client.calls import Platform
from gyral.client.documents import Spec
from gyral.client.errors import ClientError
from gyral.client.replay import source as sources
from gyral.client.replay.history import History
from gyral.client.replay.journal import Journal
from gyral.client.replay.live import Line
from gyral.client.replay.moments import moment, text
from gyral.client.replay.schedule import Day, Schedule, plan
from gyral.client.replay.sending import Answers, Sender, Tally
from gyral.client.replay.source import Columns, Source
from gyral.client.replay.variants import Declared, Variant, declared, derive
from gyral.client.replay.watching import Watcher
from gyral.contracts.specs.document import duration_seconds
from gyral.modelling.columns import Bools
from gyral.modelling.labels import LabelRule
from gyral.modelling.metrics import log_losses


@dataclass(frozen=True, slots=True)
class Options:
    """What to replay, and how."""

    spec: Path
    data: Path
    columns: Columns
    report: Path
    bootstrap: str = "59d"
    until_us: int | None = None
    wait: bool = True


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay left behind, for the report."""

    declared: Declared
    models: Mapping[Variant, str]
    source: Source
    positive: Bools
    labelled: Bools
    schedule: Schedule
    answers: Answers
    tally: Tally
    history: History
    journal: Path
    bootstrap_s: float
    replay_s: float
    retried: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    """Service to how many attempts it did not answer, by what they met instead."""


async def play(options: Options, platform: Platform, line: Line) -> Replayed:
    """Replay a file; return what was answered and what happened.

    Raises:
        ClientError: the input is unusable, or the platform refuses it or stays away.
    """
    line.doing("reading the file")
    found = declared(documents.read(options.spec), str(options.spec))
    source = sources.read(options.data, options.columns, found)
    schedule = plan(
        source.times_us,
        source.known_us,
        block_us=round(duration_seconds(found.model.spec.monitor.block) * 1e6),
        bootstrap_us=round(duration_seconds(options.bootstrap) * 1e6),
        until_us=options.until_us,
    )
    specs = derive(found.model, moment(schedule.cutoff_us))
    models = {variant: spec.name for variant, spec in specs.items()}
    await refuse_second(platform, (models[Variant.LOOP], *models.values()))
    options.report.mkdir(parents=True, exist_ok=True)
    answers = Answers.none_yet(len(source), tuple(models))
    watcher = Watcher(platform, models, line.doing)
    positive, labelled = _labels(found, source)
    with Journal(options.report / "sent.jsonl") as journal:
        sender = Sender(platform, source, found, models, journal, answers)
        began = perf_counter()
        every: tuple[Spec, ...] = (found.features, found.labels, *specs.values())
        await declaring.known(
            platform, every, await declaring.declare(platform, every), line.doing
        )
        line.doing(f"sending what is known at {text(schedule.cutoff_us)}")
        line.tell(f"first versions learn from what is known at {text(schedule.cutoff_us)}")
        await sender.bootstrap(schedule)
        await watcher.first_versions()
        first = perf_counter()
        line.tell(f"they serve after {first - began:.0f} s; {len(schedule.days)} days to play")
        ends = schedule.period_ends()
        sender.tally = Tally()
        score = _Score(answers, positive, labelled)
        for number, day in enumerate(schedule.days, start=1):
            line.day = f"{text(day.start_us)[:10]} ({number} of {len(schedule.days)})"
            await _play_day(day, sender, watcher, line, wait=options.wait)
            line.scores = score.after(day.rows)
            if number in ends:
                line.over(ends[number])
        if not options.wait:
            await watcher.day(schedule.days[-1].end_us)
    return Replayed(
        found,
        models,
        source,
        positive,
        labelled,
        schedule,
        answers,
        sender.tally,
        watcher.history,
        options.report / "sent.jsonl",
        bootstrap_s=first - began,
        replay_s=perf_counter() - first,
        retried=platform.retried(),
    )


async def refuse_second(platform: Platform, models: Iterable[str]) -> None:
    """Return when no model has a champion yet: a replay begins with the first version.

    Raises:
        ClientError: one has.
    """
    for model in models:
        known = await platform["registry"].find(f"/v1/models/{model}", Model)
        if known is not None and known.champion is not None:
            raise ClientError(
                f"{model} has a champion already; a replay needs a fresh instance: "
                "export GYRAL_HOME=out/again, then .venv/bin/gyral up"
            )


async def _play_day(
    day: Day, sender: Sender, watcher: Watcher, line: Line, *, wait: bool
) -> None:
    line.doing("sending and asking")
    await sender.day(day)
    await sender.mark_models(day.end_us)
    await sender.mark_streams(day.end_us)
    if wait:
        await watcher.day(day.end_us)


def _labels(found: Declared, source: Source) -> tuple[Bools, Bools]:
    rule = LabelRule.parse(found.model.spec.label.positive)
    labels = rule.evaluate({rule.field: source.labels[rule.field]})
    return labels.positive, labels.known & (source.known_us >= 0)


@dataclass(slots=True)
class _Score:
    """Log-loss so far of each model, for whoever watches."""

    answers: Answers
    positive: Bools
    labelled: Bools
    _rows: int = 0
    _sums: dict[Variant, float] | None = None

    def after(self, rows: slice) -> str:
        """Add a day's rows and return the scores so far."""
        at = np.flatnonzero(self.labelled[rows]) + rows.start
        self._rows += len(at)
        self._sums = self._sums or dict.fromkeys(self.answers.probability, 0.0)
        shown = []
        for variant, probability in self.answers.probability.items():
            losses = log_losses(self.positive[at], probability[at])
            self._sums[variant] += float(np.nansum(losses))
            mean = self._sums[variant] / max(1, self._rows)
            served = self.answers.version[variant][rows]
            version = f"@{served[-1]}" if len(served) else ""
            shown.append(f"{variant}{version} {mean:.4f}")
        return "log-loss so far " + ", ".join(shown)
