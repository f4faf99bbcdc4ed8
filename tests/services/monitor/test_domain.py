"""Joining, judging and choosing champions: values worked by hand, then laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gyral.contracts.training import Cause
from gyral.modelling.detectors import ExcessBaseline, LossBaseline
from gyral.modelling.labels import LabelRule
from gyral.monitor.domain.champions import Champion, champion_of
from gyral.monitor.domain.joining import Label, Predictions, join
from gyral.monitor.domain.judging import Block, Detectors, judge, request_id
from gyral.monitor.domain.measuring import Quality, Shift, quality, shift
from gyral.monitor.domain.watches import Source, to_datetime, to_micros
from tests.services.monitor.builders import DAY_US, START_US, a_profile, a_watch

RULE = LabelRule.parse("delay > 15")


def predictions(*rows):
    """Rows of (entity, time)."""
    return Predictions(
        np.ones(len(rows), np.int64),
        [entity for entity, _ in rows],
        np.array([time for _, time in rows], np.int64),
        np.full(len(rows), 0.5),
    )


def label(entity, time_us, delay=20.0, *, key=None, revision=0):
    return Label(entity, key or entity, revision, time_us, delay, None)


def test_a_label_belongs_to_the_latest_prediction_before_it():
    found = join(
        predictions(("a", 1), ("b", 2), ("a", 3), ("a", 9), (None, 9)), [label("a", 5)], RULE
    )
    assert found.labelled.tolist() == [False, False, True, False, False]
    assert found.positive.tolist() == [False, False, True, False, False]
    assert found.superseded.tolist() == [True, False, False, False, False]


def test_of_two_labels_the_earlier_one_counts_and_of_two_revisions_the_later():
    found = join(
        predictions(("a", 1)),
        [
            label("a", 9, 0.0, key="second"),
            label("a", 5, 0.0, key="first"),
            label("a", 5, 20.0, key="first", revision=1),
        ],
        RULE,
    )
    assert found.positive.tolist() == [True]


def test_a_label_without_a_value_or_of_another_type_labels_nothing():
    rows = predictions(("a", 1))
    assert not join(rows, [label("a", 5, None)], RULE).labelled.any()
    text = Label("a", "a", 0, 5, None, "late")
    assert not join(rows, [text], RULE).labelled.any()
    assert join(rows, [text], LabelRule.parse('delay == "late"')).positive.all()


ROWS = st.lists(st.tuples(st.sampled_from([None, "a", "b"]), st.integers(0, 20)), max_size=12)
LABELS = st.lists(
    st.builds(
        label,
        st.sampled_from("abc"),
        st.integers(0, 25),
        st.sampled_from([0.0, 20.0]),
        key=st.sampled_from("xyz"),
        revision=st.integers(0, 3),
    ),
    unique_by=lambda it: (it.entity, it.key, it.revision),
    max_size=12,
)


@given(rows=ROWS, labels=LABELS, rng=st.randoms())
def test_the_order_of_labels_never_matters(rows, labels, rng):
    block = predictions(*sorted(rows, key=lambda row: row[1]))
    found = join(block, labels, RULE)
    shuffled = list(labels)
    rng.shuffle(shuffled)
    again = join(block, shuffled, RULE)
    assert found.positive.tolist() == again.positive.tolist()
    assert found.labelled.tolist() == again.labelled.tolist()
    assert not (found.labelled & found.superseded).any()
    assert not (found.positive & ~found.labelled).any()


def test_a_block_belongs_to_the_last_champion_that_reigned_in_it():
    reigns = [Champion(1, 1, 0), Champion(2, 2, 15), Champion(3, 1, 30)]
    assert champion_of(reigns, 10) == reigns[0]
    assert champion_of(reigns, 15) == reigns[0]
    assert champion_of(reigns, 20) == reigns[1]
    assert champion_of(reigns, 99) == reigns[2]
    assert champion_of(reigns, 0) is None


def test_a_block_closes_when_both_watermarks_allow():
    watch = a_watch()
    at = START_US + 3 * DAY_US
    assert watch.closable_until(at, None) is None
    assert watch.closable_until(at, at) == at - DAY_US
    assert watch.closable_until(at, at + DAY_US) == at
    assert watch.closable_until(at - 1, at + DAY_US) == at - DAY_US
    assert watch.closable_until(at + 9 * DAY_US, at + DAY_US + 5) == at


def test_labels_by_the_streams_own_key_need_no_other_field():
    assert a_watch().source == Source("arrivals", None, "delay")
    other = a_watch(label={"stream": "arrivals", "key": "c", "positive": "delay > 15"})
    assert other.source == Source("arrivals", "c", "delay")


@given(st.integers(0, 2**52))
def test_moments_survive_the_way_to_micros_and_back(time_us):
    assert to_micros(to_datetime(time_us)) == time_us


def test_a_block_without_labels_has_no_scores():
    none = np.zeros(3, np.bool_)
    found = quality(np.array([0.2, 0.4, 0.6]), none, none, none)
    assert (found.rows, found.labelled_rows) == (3, 0)
    assert found.mean_prediction == pytest.approx(0.4)
    assert found.log_loss is found.ece is found.auc is found.base_rate is None


def test_too_few_rows_are_no_drift():
    profile = a_profile()
    strange = {"x": np.full(29, 50.0), "c": np.array(["new"] * 29, dtype=object)}
    found = shift(profile, profile.features.bins.count(strange), np.full(29, 0.5))
    assert found == Shift(None, None)
    more = {name: np.repeat(column, 2) for name, column in strange.items()}
    found = shift(profile, profile.features.bins.count(more), np.full(58, 0.5))
    assert found.features is not None
    assert found.features.drifted


def a_block(day, log_loss=0.7, *, excess=0.0, rows=30, since=0, start=START_US):
    measured = Quality(rows, rows, 0, 0.5, 0.5, log_loss, log_loss - excess, excess, 0, 0, 0)
    return Block(
        start_us=START_US + day * DAY_US,
        end_us=START_US + (day + 1) * DAY_US,
        quality=measured,
        shift=Shift(None, None),
        baseline=LossBaseline(0.5, 0.1),
        usual_excess=ExcessBaseline(),
        schedule_from_us=start,
        rows_since_training=since,
    )


def test_cusum_adds_up_what_is_above_normal_and_asks_beyond_its_limit():
    watch, states, causes = a_watch(({"cusum": {"k": 0.5, "h": 4.0}},)), Detectors(), []
    for day in range(4):
        found = judge(watch, states, a_block(day, 0.7))
        states = found.detectors
        causes.append(found.request.cause if found.request else None)
    assert states.cusum.value == pytest.approx(6.0)
    assert causes == [None, None, Cause.CUSUM, Cause.CUSUM]
    assert found.request is not None
    assert found.request.as_of_us == START_US + 5 * DAY_US
    assert found.request.evidence["z"] == pytest.approx(2.0)
    assert [alarm.measured for alarm in found.alarms] == [pytest.approx(6.0)]


def test_a_block_with_few_labels_moves_nothing_and_a_standing_alarm_still_asks():
    watch = a_watch(({"cusum": {"k": 0.5, "h": 1.0}},))
    standing = judge(watch, Detectors(), a_block(0, 0.7)).detectors
    found = judge(watch, standing, a_block(1, 9.0, rows=4))
    assert found.detectors == standing
    assert found.request is not None


def test_the_first_declared_cause_wins_and_names_the_others():
    triggers = ({"rows": 10}, {"cusum": {"k": 0.5, "h": 1.0}}, {"schedule": {"every": "1d"}})
    found = judge(a_watch(triggers), Detectors(), a_block(0, 0.7, since=10))
    assert found.request is not None
    assert found.request.cause is Cause.ROWS
    assert found.request.evidence["other_causes"] == "cusum,schedule"
    assert found.scheduled
    assert found.request.request_id == request_id("delays", Cause.ROWS, START_US + 2 * DAY_US)


def test_the_timer_counts_from_the_first_champion_or_its_last_word():
    watch = a_watch(({"schedule": {"every": "3d"}},))
    asked = [
        day for day in range(6) if judge(watch, Detectors(), a_block(day)).request is not None
    ]
    assert asked == [2, 3, 4, 5]
    later = a_block(4, start=START_US + 3 * DAY_US)
    assert judge(watch, Detectors(), later).request is None


def test_a_model_without_triggers_is_measured_and_asks_for_nothing():
    states = Detectors()
    for day in range(20):
        found = judge(a_watch(()), states, a_block(day, 1.5, excess=0.5, since=10**6))
        states = found.detectors
        assert found.request is None
        assert not found.alarms
    assert states.cusum.value > 100
    assert found.excess.mean == pytest.approx(0.5)
