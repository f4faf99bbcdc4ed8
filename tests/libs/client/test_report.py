"""What a report says of a replay, and that no limit holds for one in which nothing happened."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from gyral.client.replay.history import Closing, History, Move, Trigger
from gyral.client.replay.playing import Replayed
from gyral.client.replay.schedule import plan
from gyral.client.replay.sending import Answers, Tally
from gyral.client.replay.variants import Variant
from gyral.client.report import page, promotions
from gyral.client.report.closing import Closed, closed
from gyral.client.report.content import WHOLE, Report, Trace
from gyral.client.report.limits import Limits, missed, read
from gyral.client.report.promotions import Promotion
from gyral.client.report.statistics import Gain, Summary
from tests.libs.client.stores import MODEL, uuid_of

MARCH = datetime(2013, 3, 1, tzinfo=UTC)
APRIL = datetime(2013, 4, 1, tzinfo=UTC)
LIMITS = Limits(0.015, 0.008, 0.02, 2, 12)
DAY_US = 86_400_000_000


def a_trigger(name, outcome, version=None):
    evidence = {"cusum": 6.0}
    return Trigger(
        Variant.LOOP, name, MARCH, "cusum", outcome, evidence, "why", f"run {name}", version
    )


def a_promotion(version, **changed):
    made = Promotion(
        version,
        "deployer",
        "every step kept",
        f"r{version}",
        "cusum",
        MARCH,
        by_monitor=True,
        passing_verdict=True,
    )
    return replace(made, **changed)


def a_replay(history):
    first_us = int(MARCH.timestamp()) * 1_000_000
    times = first_us + np.arange(4, dtype=np.int64) * DAY_US
    nothing: Any = None  # neither the documents nor the file are looked at
    return Replayed(
        declared=nothing,
        models={each: f"m-{each}" for each in Variant},
        source=nothing,
        positive=np.zeros(4, dtype=bool),
        labelled=np.ones(4, dtype=bool),
        schedule=plan(times, times, block_us=DAY_US, bootstrap_us=DAY_US),
        answers=Answers.none_yet(4, tuple(Variant)),
        tally=Tally(10, 10, 1.0, 1.0),
        history=history,
        journal=Path("sent.jsonl"),
        bootstrap_s=1.0,
        replay_s=1.0,
    )


def a_report(*triggers, promoted=(), trace=None, moves=(), turns=()):
    scores = {Variant.FROZEN: 0.7, Variant.TIMER: 0.75, Variant.LOOP: 0.75}
    summary = Summary(4, 0.2, scores, scores, scores)
    gain = Gain(0.02, 0.012, 9)
    return Report(
        MODEL,
        a_replay(History(list(triggers), list(moves))),
        summary,
        {"2013-03": summary, "2013-04": summary},
        gain,
        gain,
        (),
        promoted,
        turns,
        trace,
        2.0,
    )


def misses(report, folder):
    path = folder / "report.json"
    path.write_bytes(orjson.dumps(report.json(), option=orjson.OPT_NON_STR_KEYS))
    return missed(read(path), LIMITS)


APPROVED = [a_trigger("r2", "approved", 2), a_trigger("r3", "approved", 3)]
SUPPRESSED = [a_trigger("r4", "suppressed"), a_trigger("r5", "failed")]
PROMOTED = (a_promotion(2), a_promotion(3))
CLOSED = Trace("abc", tuple(WHOLE), 17)


def test_a_loop_that_closed_misses_nothing_and_its_reason_is_told(tmp_path):
    report = a_report(*APPROVED, *SUPPRESSED, promoted=PROMOTED, trace=CLOSED)
    assert misses(report, tmp_path) == []
    assert report.json()["why_no_rejection"] == (
        "each of the 2 challengers judged passed every gate; "
        "unjudged: 1 suppressed, 1 failed, 0 cancelled"
    )


def test_a_rejection_needs_no_reason_why_there_was_none(tmp_path):
    report = a_report(
        *APPROVED, a_trigger("r4", "rejected", 4), promoted=PROMOTED, trace=CLOSED
    )
    assert report.json()["why_no_rejection"] is None
    assert misses(report, tmp_path) == []


def test_that_nothing_was_judged_is_no_reason_why_nothing_was_rejected(tmp_path):
    report = a_report(*SUPPRESSED, promoted=PROMOTED, trace=CLOSED)
    [line] = misses(report, tmp_path)
    assert line.startswith("found neither a rejection nor")


@pytest.mark.parametrize(
    "trace", [None, Trace("abc"), replace(CLOSED, services=("monitor", "trainer", "registry"))]
)
def test_a_trace_that_was_not_seen_to_reach_the_route_is_none(tmp_path, trace):
    [line] = misses(a_report(*APPROVED, promoted=PROMOTED, trace=trace), tmp_path)
    assert line.startswith("found no trace to a route")


@pytest.mark.parametrize("fault", [{"by_monitor": False}, {"passing_verdict": False}])
def test_a_promotion_that_the_loop_did_not_earn_is_found(tmp_path, fault):
    promoted = (a_promotion(2), a_promotion(3, **fault))
    [line] = misses(a_report(*APPROVED, promoted=promoted, trace=CLOSED), tmp_path)
    assert "without a monitor's request or a passing verdict" in line


def test_a_promotion_is_dated_by_what_was_watched_or_else_by_its_training():
    watched = Move(Variant.LOOP, 2, "completed", APRIL)
    others = Move(Variant.TIMER, 3, "completed", APRIL)
    report = a_report(*APPROVED, promoted=PROMOTED, moves=[watched, others])
    first, second = report.json()["promoted"]
    assert (first["event_time"], second["event_time"]) == (APRIL, MARCH)
    assert (first["evidence"], first["cause"]) == ({"cusum": 6.0}, "cusum")


def test_the_page_marks_promotions_and_says_how_far_a_trace_leads():
    whole = page.render(a_report(*APPROVED, promoted=PROMOTED, trace=CLOSED))
    assert whole.count("version 3 promoted") == 3
    assert "Trace from an alarm to its route" in whole
    assert "Trace of an alarm, in part" in page.render(a_report(trace=Trace("abc")))


def test_a_turn_takes_what_is_left_of_it_without_the_training():
    closings = [Closing(name, MARCH, 30.0) for name in ("one", "two", "of a run not told of")]
    began = {"one": MARCH - timedelta(seconds=20), "two": MARCH - timedelta(seconds=24)}
    turns = closed(closings, began)
    assert turns == [Closed(10.0, 20.0), Closed(6.0, 24.0)]
    report = a_report(*APPROVED, promoted=PROMOTED, trace=CLOSED, turns=turns)
    said = report.json()["closing_latency_s"]
    assert (said["p50"], said["max"]) == (8.0, 10.0)
    assert "the training apart" in said["what"]
    assert ">10.0 s<" in page.render(report)


@pytest.mark.live
async def test_promotions_are_those_of_the_audit_log(stores):
    asked = await stores.asked("alarm")
    await stores.version(1, uuid_of("first"), cause="bootstrap")
    await stores.version(2, asked)
    await stores.version(3, uuid_of("by hand"), cause="manual")
    await stores.version(4, asked, state="rejected")
    await stores.version(5, asked, passed=False)
    for seq, (before, after) in enumerate(
        [(None, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 9)], start=1
    ):
        await stores.audited(seq, "champion.changed", after, before=before, after=after)
    await stores.audited(7, "champion.kept", 9, completed=2)
    found = await promotions.of_model(stores.connection, MODEL)
    assert [(each.version, each.by_monitor, each.passing_verdict) for each in found] == [
        (2, True, True),
        (3, False, True),
        (4, True, False),
        (5, True, False),
        (9, False, False),
    ]
    assert (found[0].cause, found[0].request_id, found[1].cause) == ("cusum", asked, "manual")
    assert not await promotions.of_model(stores.connection, "another")
