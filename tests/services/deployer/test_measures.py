"""What a step's answers come to: worked by hand, and right at every look."""

import numpy as np
import pytest

from gyral.deployer.domain.measures import Observed, compare


def observed(scores, *, blocks=None, failed=0, latency_us=900.0):
    scores = np.asarray(scores, np.float64)
    requests = len(scores) + failed
    return Observed(
        rows=requests,
        failed_rows=failed,
        failed_requests=failed,
        latencies_us=np.full(requests, latency_us),
        scores=scores,
        blocks=np.arange(len(scores)) if blocks is None else np.asarray(blocks),
    )


def test_counts_means_and_the_p99_are_those_of_the_answers():
    measured, told = compare(
        observed([0.2, 0.4], latency_us=1000),
        observed([0.5], failed=1),
        paired=None,
        elapsed_s=3,
    )
    assert (measured.candidate.requests, measured.candidate.failed_requests) == (2, 1)
    assert (told["champion_mean_score"], told["candidate_mean_score"]) == (
        pytest.approx(0.3),
        0.5,
    )
    assert (told["champion_p99_us"], told["candidate_p99_us"]) == (1000, 900)
    assert (measured.elapsed_s, measured.p99_ratio_lower, measured.score_shift) == (
        3,
        None,
        None,
    )


def test_nobody_answered_yet_is_no_error():
    measured, told = compare(observed([]), observed([]), paired=np.empty(0), elapsed_s=0)
    assert measured.score_shift is None
    assert told["candidate_mean_score"] is None


def test_paired_scores_need_far_fewer_requests_than_means():
    rng = np.random.default_rng(7)
    base = rng.uniform(0.1, 0.9, 400)
    shifted = base - 0.05 + rng.normal(0, 0.01, 400)
    by_pairs, _ = compare(observed(base), observed(shifted), paired=shifted - base, elapsed_s=0)
    by_means, _ = compare(observed(base), observed(shifted), paired=None, elapsed_s=0)
    assert by_pairs.score_shift is not None
    assert by_means.score_shift is not None
    assert -0.06 < by_pairs.score_shift.lower < -0.05 < by_pairs.score_shift.upper < -0.04
    assert by_means.score_shift.lower < 0 < by_means.score_shift.upper


def test_requests_of_one_entity_count_as_one_value():
    many = observed(np.tile([0.1, 0.9], 500), blocks=np.tile([1, 2], 500))
    measured, _ = compare(many, many, paired=None, elapsed_s=0)
    assert measured.score_shift is None


def test_ten_times_slower_is_seen_with_five_hundred_requests_an_arm():
    rng = np.random.default_rng(7)
    slow, quick = observed(np.zeros(600)), observed(np.zeros(600))
    slow.latencies_us[:] = rng.lognormal(9.2, 0.3, 600)
    quick.latencies_us[:] = rng.lognormal(6.9, 0.3, 600)
    measured, _ = compare(quick, slow, paired=None, elapsed_s=0)
    assert measured.p99_ratio_lower is not None
    assert measured.p99_ratio_lower > 2
