"""The days, weeks or months a report counts by: whichever suits how long its data are."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from statistics import median

import numpy as np

from gyral.client.replay.moments import micros
from gyral.client.report.axis import Axis
from gyral.client.report.statistics import Scored, Summary, summary

_DAYS_UNTIL = timedelta(days=31)
_WEEKS_UNTIL = timedelta(days=122)
_LEAST_SHARE = 0.1
"""Of the median period's rows; a score over fewer is mostly noise and would set the scale."""


class Unit(StrEnum):
    """How long a period is."""

    DAY = "day"
    WEEK = "week"
    MONTH = "month"


@dataclass(frozen=True, slots=True)
class Period:
    """One period, as far as the data cover it, and what was scored in it."""

    name: str
    start: datetime
    end: datetime
    scores: Summary

    @property
    def middle(self) -> datetime:
        """The moment its scores stand for."""
        return self.start + (self.end - self.start) / 2


@dataclass(frozen=True, slots=True)
class Periods:
    """All periods of a report, oldest first; each ends where the next begins."""

    unit: Unit
    every: Sequence[Period]

    @property
    def drawn(self) -> Sequence[Period]:
        """Those with enough rows to be compared with the others."""
        if not self.every:
            return ()
        least = _LEAST_SHARE * median(each.scores.rows for each in self.every)
        return [each for each in self.every if each.scores.rows >= max(1.0, least)]

    def share(self, time: datetime) -> float:
        """Return where a time lies between the first period's start and the last one's end."""
        start, end = self.every[0].start, self.every[-1].end
        return min(max((time - start) / (end - start), 0.0), 1.0)

    @property
    def axis(self) -> Axis:
        """Ticks where periods start, values in the middle of those that are drawn."""
        return Axis(
            [(self.share(each.start), _shown(self.unit, each)) for each in self.every],
            [self.share(each.middle) for each in self.drawn],
        )

    @property
    def left_out(self) -> Sequence[Period]:
        """Those with too few rows."""
        drawn = {each.name for each in self.drawn}
        return [each for each in self.every if each.name not in drawn]


def by_period(rows: Scored, start: datetime, end: datetime) -> Periods:
    """Return the scores of every period from `start` to `end`, event time in UTC.

    Args:
        rows: what is scored, in the order of its times.
        start: of the first period; weeks are counted from here.
        end: of the data.
    """
    unit = unit_of(start, end)
    bounds = [*_starts(unit, start, end), end]
    order = np.argsort(rows.times_us, kind="stable")
    cuts = np.searchsorted(rows.times_us[order], [micros(bound) for bound in bounds])
    found = []
    for (low, high), (first, last) in zip(pairwise(bounds), pairwise(cuts), strict=True):
        at = order[first:last]
        scored = Scored(
            rows.times_us[at],
            rows.positive[at],
            {variant: values[at] for variant, values in rows.probability.items()},
        )
        found.append(Period(_name(unit, low), low, high, summary(scored)))
    return Periods(unit, found)


def unit_of(start: datetime, end: datetime) -> Unit:
    """Return days for up to a month of data, weeks for up to four, else months."""
    if end - start <= _DAYS_UNTIL:
        return Unit.DAY
    return Unit.WEEK if end - start <= _WEEKS_UNTIL else Unit.MONTH


def of_months(names: Sequence[str], scores: Sequence[Summary]) -> Periods:
    """Return whole calendar months, each named as `2013-03`, with their scores."""
    starts = [datetime.fromisoformat(f"{name}-01T00:00:00+00:00") for name in names]
    return Periods(
        Unit.MONTH,
        [
            Period(name, start, _next(Unit.MONTH, start), each)
            for name, start, each in zip(names, starts, scores, strict=True)
        ],
    )


def _starts(unit: Unit, start: datetime, end: datetime) -> Sequence[datetime]:
    found = [start]
    while (following := _next(unit, found[-1])) < end:
        found.append(following)
    return found


def _next(unit: Unit, time: datetime) -> datetime:
    midnight = time.replace(hour=0, minute=0, second=0, microsecond=0)
    if unit is Unit.MONTH:
        return (midnight.replace(day=28) + timedelta(days=4)).replace(day=1)
    return midnight + timedelta(days=1 if unit is Unit.DAY else 7)


def _name(unit: Unit, start: datetime) -> str:
    return f"{start:%Y-%m}" if unit is Unit.MONTH else f"{start:%Y-%m-%d}"


def _shown(unit: Unit, period: Period) -> str:
    whole = unit is Unit.MONTH and period.start.day == 1
    return period.name if whole else f"{period.start.day} {period.start:%b}"
