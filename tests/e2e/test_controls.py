"""Two controls: the loop is quiet where nothing changes, and notices a broken feed."""

from datetime import UTC, datetime, timedelta

import pytest

from tests.e2e.loop import FLIGHTS, YEAR_TIMEOUT_S, prepare_flights

pytestmark = [pytest.mark.long, pytest.mark.live, pytest.mark.timeout(YEAR_TIMEOUT_S)]
SWAPPED = datetime(2013, 6, 3, tzinfo=UTC)
SEED = "7"
"""Chosen before any run; of nine seeds tried offline, one asked for three trainings."""


def test_with_days_permuted_the_loop_hardly_retrains(loop, tmp_path):
    data = prepare_flights(tmp_path / "flights.parquet", "--permute-days", SEED)
    replay = loop.replay(FLIGHTS, data, tmp_path / "out", bootstrap="59d")
    report = replay.report(timeout_s=YEAR_TIMEOUT_S)
    admitted = [each for each in report["triggers"] if each["outcome"] != "suppressed"]
    assert len(admitted) <= 2


def test_swapped_carrier_codes_are_noticed_within_two_windows(loop, tmp_path):
    last = SWAPPED + timedelta(days=7)
    data = prepare_flights(
        tmp_path / "flights.parquet",
        *("--swap-carriers", f"{SWAPPED:%Y-%m-%d}", "--to", f"{last:%Y-%m-%d}"),
    )
    replay = loop.replay(FLIGHTS, data, tmp_path / "out", bootstrap="59d")
    replay.report(timeout_s=YEAR_TIMEOUT_S)
    alarms = loop.read("monitor", "/v1/models/flight-delay/alarms")
    drifted = [each for each in alarms if each["feature"] == "carrier"]
    starts = [datetime.fromisoformat(each["window_start"]) for each in drifted]
    assert starts, alarms
    assert SWAPPED - timedelta(days=1) <= min(starts) <= SWAPPED + timedelta(days=2)
