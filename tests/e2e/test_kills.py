"""Every process is killed once while the loop turns: nothing is lost, nothing doubled, and it still closes."""

import pytest

pytestmark = [pytest.mark.live, pytest.mark.timeout(600)]
SERVICES = (
    "ingestion",
    "validation",
    "trainer",
    "registry",
    "runtime",
    "deployer",
    "gateway",
    "monitor",
    "kafka",
    "postgres",
)
EVERY = 60
"""Answered prediction requests between two kills: less than a day of flights."""


def test_the_loop_survives_the_death_of_each_process(loop, specs, flights, tmp_path):
    replay = loop.replay(specs, flights, tmp_path / "out", bootstrap="21d")
    for number, name in enumerate(SERVICES, start=1):
        replay.until(lambda: replay.predictions() >= number * EVERY, f"the kill of {name}")
        before = loop.restarts(name)
        loop.kill(name)
        replay.until(lambda: loop.restarts(name) > before, f"the restart of {name}")
    report = replay.report()
    assert report["promotions"] >= 1
    assert set(report["invariants"].values()) == {0}
