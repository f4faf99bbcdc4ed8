"""Which days, weeks or months a report counts by, and how its charts show them."""

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import numpy as np
import pytest

from gyral.client.replay.moments import micros
from gyral.client.replay.variants import Variant
from gyral.client.report import axis
from gyral.client.report.axis import Axis
from gyral.client.report.chart import WIDTH, Chart, Mark
from gyral.client.report.periods import Unit, by_period
from gyral.client.report.statistics import Scored

START = datetime(2013, 3, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def rows_at(*times):
    n = len(times)
    return Scored(
        np.array([micros(time) for time in times], dtype=np.int64),
        np.arange(n) % 2 == 0,
        {variant: np.full(n, 0.5) for variant in Variant},
    )


def hourly(days, *more):
    return rows_at(*(START + timedelta(hours=n) for n in range(24 * days)), *more)


@pytest.mark.parametrize(
    ("days", "unit", "count"),
    [(1, Unit.DAY, 1), (16, Unit.DAY, 16), (40, Unit.WEEK, 6), (306, Unit.MONTH, 10)],
)
def test_short_data_are_counted_by_the_day_and_long_ones_by_the_month(days, unit, count):
    found = by_period(hourly(days), START, START + days * DAY)
    assert (found.unit, len(found.every), len(found.drawn)) == (unit, count, count)
    assert sum(each.scores.rows for each in found.every) == 24 * days
    assert (found.every[0].start, found.every[-1].end) == (START, START + days * DAY)
    assert all(each.start < each.middle < each.end for each in found.every)


def test_a_last_month_of_a_few_rows_is_told_and_not_drawn():
    end = datetime(2014, 1, 1, 5, tzinfo=UTC)
    late = datetime(2014, 1, 1, 1, tzinfo=UTC)
    found = by_period(hourly(306, late, late), START, end)
    assert [each.name for each in found.drawn][-1] == "2013-12"
    assert [(each.name, each.scores.rows) for each in found.left_out] == [("2014-01", 2)]


def test_a_period_without_rows_is_not_drawn():
    found = by_period(rows_at(START, START + 2 * DAY), START, START + 3 * DAY)
    assert [each.name for each in found.drawn] == ["2013-03-01", "2013-03-03"]


@pytest.mark.parametrize(
    ("low", "high", "names"),
    [
        (0.407, 0.604, ["0.40", "0.45", "0.50", "0.55", "0.60", "0.65"]),
        (-0.0004, 0.031, ["-0.01", "0.00", "0.01", "0.02", "0.03", "0.04"]),
        (0.5, 0.5, ["0.50", "0.51"]),
        (0.0, 0.0, ["0.0", "0.2"]),
    ],
)
def test_ticks_are_round_and_enclose_the_values(low, high, names):
    ticks = axis.round_ticks(low, high)
    assert axis.tick_names(ticks) == names
    assert ticks[0] <= low <= high <= ticks[-1]


def a_chart(days, *marks):
    periods = by_period(hourly(days), START, START + days * DAY)
    values = [0.4 + 0.01 * number for number in range(len(periods.drawn))]
    placed = [Mark(periods.share(time), kind, said) for time, kind, said in marks]
    return Chart("Loss", periods.axis, {"loop": values}, placed).svg()


def x_of(pattern, svg):
    return [float(x) for x in re.findall(pattern, svg)]


def test_points_lie_between_the_ticks_of_their_period_and_marks_at_their_date():
    svg = a_chart(16, (START + 3 * DAY, "promoted", "v2"))
    starts = x_of(r'<line class="grid" x1="([\d.]+)" x2="\1" y1', svg)
    points = x_of(r'cx="([\d.]+)" cy="[\d.]+" r="2.5"', svg)
    assert len(starts) == len(points) == 16
    bounds = [*starts, WIDTH - 16]
    middles = [(low + high) / 2 for low, high in pairwise(bounds)]
    assert points == pytest.approx(middles, abs=0.11)
    assert x_of(r'class="mark promoted"><title>v2</title><line x1="([\d.]+)"', svg) == [
        starts[3]
    ]


@pytest.mark.parametrize("days", [2, 16, 31, 40, 122, 306, 3000])
def test_no_name_on_the_axis_of_time_is_cut_off_or_runs_into_the_next(days):
    svg = a_chart(days)
    names = re.findall(r'class="tick" x="([\d.]+)" y="292" text-anchor="middle">([^<]+)<', svg)
    spans = [(float(x) - 3 * len(name), float(x) + 3 * len(name)) for x, name in names]
    assert spans[-1][1] <= WIDTH
    assert all(end <= start for (_, end), (start, _) in pairwise(spans))


def test_a_chart_of_nothing_is_not_drawn():
    periods = by_period(hourly(2), START, START + 2 * DAY)
    assert not Chart("Loss", periods.axis, {"loop": [None, None]}).svg()


def test_a_chart_of_sizes_names_what_has_a_name_and_begins_at_its_floor():
    svg = Chart("MB", Axis.evenly(["0", "", "2"]), {"m0": [30, 90]}, floor=0.0).svg()
    names = re.findall(r'x="([\d.]+)" y="292" text-anchor="middle">([^<]+)<', svg)
    assert [name for _, name in names] == ["0", "2"]
    assert re.findall(r'text-anchor="end">([^<]+)<', svg) == [
        "0",
        "20",
        "40",
        "60",
        "80",
        "100",
    ]
    assert x_of(r'cx="([\d.]+)" cy="[\d.]+" r="2.5"', svg) == [56.0, 450.0]
