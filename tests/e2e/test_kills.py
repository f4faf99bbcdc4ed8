"""Processes die while the loop turns: nothing is lost or doubled, and it still closes."""

from functools import partial

import pytest

pytestmark = [pytest.mark.live, pytest.mark.timeout(1200)]
SERVICES = (
    "ingestion",
    "validation",
    "trainer",
    "registry",
    "runtime",
    "deployer",
    "gateway",
    "monitor",
)
STORES = ("kafka", "postgres")
MODEL = "flight-delay"
REQUESTS_BETWEEN = 60
"""Answered prediction requests between two kills: less than a day of flights."""


def kill_in_turn(loop, replay, names, requests_between):
    """Kill one after the other, each once the replay has got on and the last is back."""
    for number, name in enumerate(names, start=1):
        due = number * requests_between
        replay.until(partial(answered, replay, due), f"{due} answers before the kill of {name}")
        kill(loop, replay, name)


def kill_at_work(loop, replay, names, is_at_work, work):
    """Kill one after the other, each while there is such work under way."""
    for name in names:
        replay.until(is_at_work, f"{work} under which to kill {name}")
        kill(loop, replay, name)


def kill(loop, replay, name):
    before = loop.restarts(name)
    loop.kill(name)
    replay.until(partial(restarted, loop, name, before), f"the restart of {name}")


def answered(replay, due):
    return replay.predictions() >= due


def restarted(loop, name, before):
    return loop.restarts(name) > before


def closed(report):
    assert set(report["invariants"].values()) == {0}
    return report["promotions"] >= 1


def test_the_loop_survives_the_death_of_each_process(loop, specs, flights, tmp_path):
    replay = loop.replay(specs, flights, tmp_path / "out", bootstrap="21d")
    kill_at_work(loop, replay, ("trainer", "registry"), loop.is_training, "a training")
    idle = ("ingestion", "validation", "gateway", "monitor", *STORES)
    kill_in_turn(loop, replay, idle, REQUESTS_BETWEEN)
    rolling_out = partial(loop.is_rolling_out, MODEL)
    kill_at_work(loop, replay, ("deployer", "runtime"), rolling_out, "a rollout")
    assert closed(replay.report())


@pytest.mark.long
def test_the_loop_survives_ten_deaths_of_each_service(loop, specs, flights, tmp_path):
    replay = loop.replay(specs, flights, tmp_path / "out", bootstrap="21d")
    kill_at_work(loop, replay, ("trainer", "registry"), loop.is_training, "a training")
    kill_in_turn(loop, replay, SERVICES * 10 + STORES, REQUESTS_BETWEEN // 3)
    assert closed(replay.report(timeout_s=1000))
