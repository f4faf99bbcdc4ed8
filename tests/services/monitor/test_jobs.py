"""Time without markers, and champions without a usable profile."""

import uuid

import pytest

from gyral.contracts.monitoring import AlertRaised
from gyral.contracts.names import BlobRef
from gyral.contracts.training import Artifacts
from gyral.contracts.versions import ChampionChanged
from gyral.monitor.domain.watches import to_datetime
from gyral.monitor.handlers.champions import Champions
from gyral.monitor.jobs import WallClock
from gyral.testkit.events import delivered

from .builders import (
    DAY_US,
    START_US,
    Log,
    Monitor,
    a_log,
    a_model,
    a_profile,
    an_answer,
    labels_of,
    specs,
)

pytestmark = pytest.mark.live


def clock(monitor, known, now_us, *, caught_up=True):
    return WallClock(
        known, monitor.observing.advance, lambda: caught_up, lambda: now_us, DAY_US
    )


async def test_blocks_on_the_wall_clock_close_without_markers(monitor):
    known = specs(a_model(), clock="wall")
    monitor = Monitor(monitor.pool, monitor.opened, known)
    await monitor.crown()
    answers = [an_answer(number, 0, rows=5) for number in range(8)]
    log = Log()
    for number, answer in enumerate(answers):
        log.add(("inference.prediction.logged.v1", number % 3), answer)
    log.add(("data.label.accepted.v1", 0), labels_of(answers))
    await monitor.read(log)
    await clock(monitor, known, START_US + 3 * DAY_US - 1).run_once()
    assert (await monitor.outcome())[0] == []
    await clock(monitor, known, START_US + 3 * DAY_US, caught_up=False).run_once()
    assert (await monitor.outcome())[0] == []
    await clock(monitor, known, START_US + 3 * DAY_US).run_once()
    [window] = (await monitor.outcome())[0]
    assert (window.rows, window.labelled_rows) == (40, 40)


async def test_the_wall_clock_leaves_event_time_alone(monitor):
    await clock(monitor, specs(a_model()), START_US + 99 * DAY_US).run_once()
    assert await monitor.pool.fetchval("SELECT count(*) FROM watermark") == 0


def crowned(profile):
    event = ChampionChanged(
        model="delays",
        generation=1,
        version=1,
        run_id=str(uuid.UUID(int=1)),
        as_of=to_datetime(START_US),
        artifacts=Artifacts(
            **dict.fromkeys(("onnx", "manifest", "profile", "golden", "evaluation"), profile)
        ),
        actor="deployer",
        reason="rollout completed",
    )
    return delivered(event)


async def test_a_champion_heard_of_twice_is_written_down_once(monitor, blobs):
    event = crowned(await blobs.put_bytes("profile.json", a_profile().to_json()))
    champions = Champions(monitor.opened, blobs)
    await champions.champion_changed("delays", event)
    await champions.champion_changed("delays", event)
    async with monitor.opened() as tx:
        assert len(await tx.champions("delays")) == 1
        assert await tx.profile_bytes("delays", 1) == a_profile().to_json()


@pytest.mark.parametrize("fault", ["missing", "broken"])
async def test_a_champion_without_a_profile_is_measured_and_a_person_told(
    monitor, blobs, fault
):
    ref = await blobs.put_bytes("profile.json", b"{}")
    missing = BlobRef(key="nothing.json", sha256=ref.sha256, size_bytes=2)
    event = crowned(missing if fault == "missing" else ref)
    await Champions(monitor.opened, blobs).champion_changed("delays", event)
    [alert] = await monitor.published(AlertRaised)
    assert (alert.service, alert.subject) == ("monitor", "delays@1")
    await monitor.read(a_log(days=4))
    windows, requests, _ = await monitor.outcome()
    assert [it.labelled_rows for it in windows] == [40] * 3
    assert windows[0].measures["z"] is windows[0].measures["drift_max_z"] is None
    assert windows[0].measures["log_loss"] is not None
    assert not requests
