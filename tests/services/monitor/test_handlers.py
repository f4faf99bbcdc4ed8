"""Blocks against real Postgres: measured once, judged alike however the logs are cut."""

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gyral.contracts.monitoring import DriftDetected, QualityDropped, WindowMeasured
from gyral.contracts.training import RunRequested
from gyral.modelling.metrics import log_losses
from gyral.monitor.domain.watches import to_datetime
from tests.services.monitor.builders import (
    DAY_US,
    LABELS,
    PREDICTIONS,
    START_US,
    Log,
    a_log,
    an_answer,
    labels_of,
)

pytestmark = pytest.mark.live


async def test_a_block_closes_when_labels_passed_its_horizon(monitor):
    await monitor.crown()
    log = Log()
    for day in range(2):
        answers = [an_answer(number, day, rows=5) for number in range(4)]
        log.day(day, answers, labels_of(answers))
    last = [records.pop() for place, records in log.partitions.items() if place[0] == LABELS]
    await monitor.read(log)
    assert (await monitor.outcome())[0] == []
    await monitor.deliver(*last[:2])
    assert (await monitor.outcome())[0] == []
    await monitor.deliver(last[2])
    [window] = (await monitor.outcome())[0]
    assert (window.start_us, window.end_us) == (START_US, START_US + DAY_US)
    assert (window.version, window.rows, window.labelled_rows) == (1, 20, 20)
    [event] = await monitor.published(WindowMeasured)
    assert event.measures == dict(window.measures)


async def test_a_window_has_the_scores_of_its_rows(monitor):
    await monitor.crown()
    answers = [
        an_answer(number, 0, probabilities=[probability])
        for number, probability in enumerate([0.9, 0.2, 0.6, 0.1])
    ]
    labels = labels_of(answers)
    labels["values"]["delay"] = [16.0, 15.0, 0.0, None]
    log = Log()
    log.day(0, answers, labels)
    log.day(
        1,
        [],
        labels_of([])
        | {
            "keys": ["x"],
            "event_times": [START_US],
            "revisions": [0],
            "values": {"delay": [1]},
        },
    )
    await monitor.read(log)
    [window] = (await monitor.outcome())[0]
    expected = log_losses(np.array([True, False, False]), np.array([0.9, 0.2, 0.6])).mean()
    assert (window.rows, window.labelled_rows) == (4, 3)
    assert window.measures["log_loss"] == pytest.approx(expected)
    assert window.measures["base_rate"] == pytest.approx(1 / 3)
    assert window.measures["mean_prediction"] == pytest.approx(0.45)
    assert window.measures["auc"] == 1.0


async def test_a_model_gone_wrong_is_reported_and_a_training_asked_for(monitor):
    await monitor.crown()
    await monitor.read(a_log())
    windows, requests, alarms = await monitor.outcome()
    assert len(windows) == 11
    assert requests
    assert all(it.as_of_us > START_US + 6 * DAY_US for it in requests)
    ends = [it.as_of_us for it in requests]
    assert ends == sorted(set(ends)), "at most one request a block"
    assert ends == list(range(ends[0], ends[-1] + 1, DAY_US)), "a standing alarm asks again"
    told = await monitor.published(RunRequested)
    assert [(it.request_id, it.cause) for it in told] == [
        (it.request_id, it.cause) for it in requests
    ]
    assert told[0].as_of == to_datetime(ends[0])
    dropped = await monitor.published(QualityDropped)
    assert {it.request_id for it in dropped} == {it.request_id for it in requests}
    assert {it.detector for it in alarms} >= {"cusum"}


async def test_another_champion_begins_with_fresh_detectors(monitor):
    await monitor.crown()
    await monitor.crown(generation=2, version=2, as_of_us=START_US + 8 * DAY_US)
    log = Log()
    for day in range(12):
        version = 2 if day >= 8 else 1
        answers = [an_answer(n, day, rows=5, version=version) for n in range(8)]
        log.day(day, answers, labels_of(answers, wrong=3 <= day < 8))
    await monitor.read(log)
    windows, requests, _ = await monitor.outcome()
    assert [it.version for it in windows] == [1] * 8 + [2] * 3
    assert requests
    assert max(it.as_of_us for it in requests) <= START_US + 9 * DAY_US
    assert windows[8].measures["cusum"] < 5 < windows[7].measures["cusum"]


async def test_shadow_answers_and_other_versions_are_not_the_champions(monitor):
    await monitor.crown()
    answers = [an_answer(number, 0, rows=5) for number in range(6)]
    log = Log()
    others = [an_answer(n, 0, rows=5, role="shadow", version=2) for n in range(6)]
    canary = [an_answer(50 + n, 0, rows=5, version=2) for n in range(3)]
    log.day(0, [*answers, *others, *canary], labels_of(answers + canary))
    log.day(1, [], labels_of(answers[:1]))
    await monitor.read(log)
    [window] = (await monitor.outcome())[0]
    assert (window.rows, window.labelled_rows) == (30, 30)


async def test_inputs_that_left_the_reference_are_warned_of_at_the_second_window(monitor):
    await monitor.crown()
    log = Log()
    for day in range(4):
        answers = [
            an_answer(n, day, rows=5, features={"x": [50.0] * 5, "c": ["new"] * 5})
            for n in range(8)
        ]
        log.day(day, answers, labels_of(answers))
    await monitor.read(log)
    warned = await monitor.published(DriftDetected)
    assert [it.window_start for it in warned] == [
        to_datetime(START_US + day * DAY_US) for day in (1, 2)
    ]
    assert warned[0].max_z > warned[0].threshold
    assert not (await monitor.outcome())[1], "drift alone asks for no training"


async def test_features_that_came_before_the_champion_was_known_count_all_the_same(monitor):
    log = a_log(days=3)
    early = [
        it
        for place, records in log.partitions.items()
        for it in records[:2]
        if place[0] == PREDICTIONS
    ]
    rest = [it for records in log.partitions.values() for it in records if it not in early]
    await monitor.deliver(*early)
    assert await monitor.pool.fetchval("SELECT count(*) FROM unbinned") == 6
    await monitor.crown()
    await monitor.deliver(*rest)
    late = (await monitor.outcome())[0]
    await reset(monitor)
    await monitor.read(log)
    assert (await monitor.outcome())[0] == late
    assert late[0].measures["drift_max_z"] is not None


async def test_before_any_champion_time_advances_and_nothing_is_measured(monitor):
    await monitor.read(a_log(days=3))
    assert (await monitor.outcome()) == ([], [], [])
    async with monitor.opened() as tx:
        assert await tx.watermark(PREDICTIONS, "delays") == START_US + 3 * DAY_US
        assert await tx.closed_until(["delays"]) == {"delays": START_US + 2 * DAY_US}


async def test_what_is_no_record_of_ours_is_skipped(monitor):
    await monitor.crown()
    log = a_log(days=2)
    for place in log.partitions:
        log.add(place, b"\xff")
        log.add(place, b'{"model": 3}')
        log.add(place, an_answer(0, 0, model="nobody"))
        log.add(place, an_answer(0, 1, probabilities=[2.0]))
        log.add(place, an_answer(0, 1, entity_keys=["a\0b"]))
        log.add(place, an_answer(0, 1, request_id="me"))
        log.add(place, b'{"subject": 5}', "data.watermark.advanced.v1")
    await monitor.read(log)
    [window] = (await monitor.outcome())[0]
    assert window.rows == 40


async def test_rows_of_closed_blocks_are_dropped(monitor):
    await monitor.crown()
    await monitor.read(a_log(days=6))
    kept = [
        await monitor.pool.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608
        for table in ("prediction", "histogram", "label")
    ]
    assert kept == [40, 1, 40]


async def test_alarms_come_newest_first_and_no_page_ends_within_a_block(monitor):
    await monitor.crown()
    await monitor.read(a_log())
    async with monitor.opened() as tx:
        every = await tx.alarms("delays", None, 1000)
        paged, before_us = [], None
        while page := await tx.alarms("delays", before_us, 1):
            paged += page
            before_us = page[-1].start_us
    assert paged == every
    starts = [alarm.start_us for alarm in every]
    assert starts == sorted(starts, reverse=True)
    assert len(set(starts)) < len(starts), "some block has two alarms"


async def reset(monitor):
    """Forget everything but the champion."""
    await monitor.pool.execute(
        """
        TRUNCATE watermark, prediction, histogram, unbinned, label, watched, measurement,
                 request, alarm, outbox, sink_offset
        """
    )


def again(log, rng):
    """Repeat some requests and labels later in their partition, as redelivery does."""
    repeated = Log()
    for place, records in log.partitions.items():
        for at, record in enumerate(records):
            repeated.add(place, record.value, record.type)
            if at and rng.random() < 0.3:
                earlier = records[rng.randrange(at)]
                repeated.add(place, earlier.value, earlier.type)
    return repeated


async def read_in_pieces(monitor, log, rng):
    """Deliver a log in batches cut anywhere; each partition keeps its order, no more."""
    waiting = {place: list(records) for place, records in log.partitions.items()}
    while any(waiting.values()):
        batch = []
        for place, records in waiting.items():
            taken = rng.choice((0, 1, rng.randrange(12)))
            batch += records[:taken]
            waiting[place] = records[taken:]
        if batch:
            await monitor.deliver(*batch)


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
async def test_cuts_interleavings_and_repeats_change_nothing(monitor, seed):
    await monitor.crown()
    await reset(monitor)
    log, rng = a_log(days=9), random.Random(seed)
    await monitor.read(log)
    expected = await monitor.outcome()
    assert expected[1]
    await reset(monitor)
    await read_in_pieces(monitor, again(log, rng), rng)
    assert await monitor.outcome() == expected
    assert len(await monitor.published(RunRequested)) == len(expected[1])
