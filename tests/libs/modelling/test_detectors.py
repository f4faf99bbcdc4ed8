import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from gyral.modelling.detectors import (
    Cusum,
    CusumState,
    ExcessBaseline,
    ExcessLoss,
    ExcessState,
    LossBaseline,
)

numbers = st.lists(st.floats(-50, 50), max_size=40)


def run(detector, state, values):
    for value in values:
        state = detector.step(state, value)
    return state


def test_cusum_adds_what_exceeds_k_and_never_falls_below_zero():
    cusum = Cusum(k=0.5, h=5.0)
    values = []
    state = CusumState()
    for z in (1.0, -3.0, 2.5, 3.0, 1.5):
        state = cusum.step(state, z)
        values.append(state.value)
    assert values == [0.5, 0.0, 2.0, 4.5, 5.5]
    assert cusum.alarms(state)
    assert not cusum.alarms(CusumState(5.0, 4))


def test_cusum_stays_in_alarm_until_it_falls():
    cusum = Cusum()
    state = run(cusum, CusumState(), [6.0, 0.5])
    assert cusum.alarms(state)
    assert not cusum.alarms(cusum.step(state, -3.0))


def test_cusum_on_noise_alarms_once_in_about_930_blocks():
    noise = np.random.default_rng(5).normal(size=400_000)
    cusum, state, alarms = Cusum(), CusumState(), 0
    for z in noise.tolist():
        state = cusum.step(state, z)
        if cusum.alarms(state):
            alarms, state = alarms + 1, CusumState()
    assert 800 < len(noise) / alarms < 1060


@given(numbers)
def test_cusum_is_the_largest_sum_of_a_tail(values):
    tails = [sum(z - 0.5 for z in values[at:]) for at in range(len(values) + 1)]
    state = run(Cusum(), CusumState(), values)
    assert state.value == pytest.approx(max(tails), abs=1e-9)
    assert state.blocks == len(values)


def test_the_baseline_is_of_block_means():
    baseline = LossBaseline.of([0.4, 0.5, 0.6])
    assert baseline.mean == pytest.approx(0.5)
    assert baseline.sd == pytest.approx(0.1)
    assert baseline.z(0.7) == pytest.approx(2.0)


@pytest.mark.parametrize(
    ("losses", "found"), [([], "found 0"), ([0.5], "found 1"), ([0.5, 0.5], "found 0.0")]
)
def test_a_baseline_without_spread_is_refused(losses, found):
    with pytest.raises(ValueError, match=f"^block_losses: expected .*{found}"):
        LossBaseline.of(losses)


def test_excess_loss_alarms_when_large_and_certain():
    rule = ExcessLoss(above=0.02, window=4)
    certain = run(rule, ExcessState(), [0.03, 0.02, 0.04, 0.03])
    assert rule.alarms(certain)
    assert not rule.alarms(run(rule, ExcessState(), [0.3, -0.1, 0.1, -0.1]))  # large, uncertain
    assert not rule.alarms(run(rule, ExcessState(), [0.019, 0.02, 0.019]))  # certain, small
    assert not rule.alarms(run(rule, ExcessState(), [0.5]))  # less than half a window
    assert rule.alarms(run(rule, ExcessState(), [0.5, 0.4]))


def test_only_the_window_counts():
    rule = ExcessLoss(window=3)
    assert run(rule, ExcessState(), [9, 9, 1, 2, 3]) == ExcessState((1, 2, 3))


def test_equal_blocks_are_certain():
    rule = ExcessLoss(window=3)
    assert rule.alarms(run(rule, ExcessState(), [0.1, 0.1, 0.1]))
    assert rule.evidence(run(rule, ExcessState(), [0.0, 0.0])).t == 0.0
    assert rule.evidence(run(rule, ExcessState(), [-0.1, -0.1])).t < -1e6
    assert rule.evidence(ExcessState()).mean == 0.0


@given(st.lists(st.integers(-100, 100), min_size=2, max_size=14, unique=True))
def test_t_agrees_with_scipy(hundredths):
    values = [n / 100 for n in hundredths]
    rule = ExcessLoss(window=14)
    evidence = rule.evidence(run(rule, ExcessState(), values))
    assert evidence.mean == pytest.approx(np.mean(values), abs=1e-9)
    assert evidence.t == pytest.approx(ttest_1samp(values, 0.0).statistic, abs=1e-9)


@given(numbers, numbers)
def test_a_detector_resumed_from_json_goes_on_as_if_never_stopped(before, after):
    for detector, state in ((Cusum(), CusumState()), (ExcessLoss(), ExcessState())):
        stopped = run(detector, state, before)
        resumed = type(stopped).from_json(stopped.to_json())
        assert resumed == stopped
        assert run(detector, resumed, after) == run(detector, state, before + after)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_block_without_a_finite_loss_takes_no_step(value):
    with pytest.raises(ValueError, match="z: expected a finite number"):
        Cusum().step(CusumState(), value)
    with pytest.raises(ValueError, match="excess: expected a finite number"):
        ExcessLoss().step(ExcessState(), value)


def test_an_excess_as_usual_as_in_training_is_no_alarm():
    usual = ExcessBaseline.of([0.02, 0.03, 0.025, 0.028])
    absolute, relative = ExcessLoss(), ExcessLoss(baseline=usual)
    state = ExcessState()
    for excess in [0.026, 0.024, 0.027] * 4:
        state = absolute.step(state, excess)
    assert absolute.alarms(state)
    assert not relative.alarms(state)
    for _ in range(14):
        state = relative.step(state, 0.06)
    assert relative.alarms(state)
    assert relative.evidence(state).mean == pytest.approx(0.06 - usual.mean)
    assert ExcessBaseline.of([0.1]) == ExcessBaseline()
