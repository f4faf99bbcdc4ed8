"""Requests for training as a person reads of them."""

from datetime import UTC, datetime, timedelta

import pytest

from gyral.client.replay.history import Trigger
from gyral.client.replay.variants import Variant
from gyral.client.report.requests import counted, evidence, folded, tally

APRIL = datetime(2013, 4, 25, tzinfo=UTC)
IN_FLIGHT = "in_flight: run 3cb090a3 is in flight"
COOLING = "cooldown: the last admitted request is as of 2013-04-25T00:00:00Z"


def asked(day, outcome, reason=None, version=None):
    as_of = APRIL + timedelta(days=day)
    return Trigger(
        Variant.LOOP, f"r{day}", as_of, "cusum", outcome, {}, reason, version=version
    )


SEVEN = [
    asked(0, "approved", version=2),
    asked(1, "suppressed", IN_FLIGHT),
    asked(2, "suppressed", IN_FLIGHT),
    asked(3, "suppressed", COOLING),
    asked(9, "rejected", "baseline: expected at most 0.63; found 0.71", 3),
    asked(10, "suppressed", COOLING),
    asked(20, "failed", "no worker"),
]


def test_suppressed_requests_are_told_in_one_line_of_what_stood_in_their_way():
    first, second, third = folded(SEVEN)
    assert first.trigger is SEVEN[0]
    assert first.fold() == (
        "3 more (26 April to 28 April): 2 while v2 was under way, 1 while cooling down"
    )
    assert second.fold() == "1 more while cooling down (5 May)"
    assert third.fold() == ""


def test_a_request_suppressed_before_any_was_admitted_waited_for_the_first_version():
    [only] = folded([asked(0, "suppressed", IN_FLIGHT)])
    assert only.trigger is None
    assert only.fold() == "1 more while the first version was under way (25 April)"


@pytest.mark.parametrize(
    ("promoted", "expected"),
    [
        (
            [2],
            (
                "7 requests for training: 1 promotion, 1 rejection, "
                "4 suppressed (2 while another was under way, 2 while cooling down), 1 failed"
            ),
        ),
        (
            [],
            (
                "7 requests for training: 0 promotions, 1 rejection, "
                "4 suppressed (2 while another was under way, 2 while cooling down), "
                "1 approved that did not take over, 1 failed"
            ),
        ),
    ],
)
def test_a_tally_says_where_every_request_went(promoted, expected):
    assert tally(SEVEN, promoted) == expected


def test_one_of_a_thing_is_singular():
    assert tally([SEVEN[0]], [2]) == "1 request for training: 1 promotion, 0 rejections"
    assert counted(2, "row") == "2 rows"


GIVEN = {
    "window_start": "2013-04-23T00:00:00+00:00",
    "window_end": "2013-04-24T00:00:00+00:00",
    "labelled_rows": 928.0,
    "cusum": 5.964959625262939,
    "cusum_threshold": 5.0,
    "excess_mean": 0.02715,
    "excess_threshold": 0.02,
    "excess_t": 2.126,
    "rows_since_training": 49072.0,
    "other_causes": "",
}


@pytest.mark.parametrize(
    ("cause", "changed", "expected"),
    [
        ("cusum", {}, "CUSUM 5.96 over 5; window of 23 April; 928 labels"),
        (
            "cusum",
            {"other_causes": "excess_loss,rows", "window_end": "2013-04-25T00:00:00+00:00"},
            (
                "CUSUM 5.96 over 5; window of 23 April to 24 April; 928 labels; "
                "also excess loss, rows"
            ),
        ),
        (
            "excess_loss",
            {},
            "excess loss 0.0272 over 0.02 (t = 2.13); window of 23 April; 928 labels",
        ),
        ("rows", {}, "49,072 rows since training; window of 23 April; 928 labels"),
        ("code", {"window_start": None, "labelled_rows": None}, ""),
    ],
)
def test_evidence_is_the_number_that_alarmed_its_window_and_its_labels(
    cause, changed, expected
):
    assert evidence(cause, GIVEN | changed) == expected
