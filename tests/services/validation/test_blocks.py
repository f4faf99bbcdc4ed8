"""Blocks of event time end to end: judged once, held back, released by a person."""

import asyncio
import sys
from datetime import UTC, datetime, timedelta

import orjson
import pytest

from gyral.contracts.data import DatasetCommitted
from gyral.contracts.monitoring import AlertRaised
from gyral.testkit.events import send
from gyral.testkit.waiting import until
from tests.services.validation.conftest import KEY, declared, read_all, row

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]
EXPECTATIONS = (
    {
        "name": "carriers-known",
        "kind": "null_share",
        "field": "carrier",
        "at_most": 0.5,
        "severity": "block",
    },
    {"name": "enough", "kind": "row_count", "at_least": 3},
)


def hour(number):
    return f"2026-01-01T{number:02}:00:00Z"


async def submit_hours(world):
    """Send an hour without fault, one without carriers, one with too few rows, and markers."""
    await send(world.producer, declared(world.features, 2, expectations=EXPECTATIONS))
    for number, rows, carrier in ((0, 9, "AA"), (1, 9, None), (2, 2, "UA")):
        flights = [
            row(f"f{number}-{at}", f"2026-01-01T{number:02}:{at:02}:00Z", carrier=carrier)
            for at in range(rows)
        ]
        await world.submit(world.features, *flights[:4])
        await world.submit_together(world.features, *flights[4:])
        await world.mark(world.features, hour(number + 1))


async def come_to(client, world, number):
    answer = await client.get(
        f"/v1/streams/{world.features}/progress",
        params={"watermark": hour(number), "wait_s": 20},
    )
    come = answer.json()
    assert come["watermark"] == hour(number), answer.text
    return come


async def events(world, kind, concerns):
    return [
        event
        async for record in read_all(world.backends.kafka_brokers, kind.topic.name)
        if concerns(event := kind.model_validate_json(record.value))
    ]


async def alerts(world):
    """Return what was alerted of our stream, once both alerts are there."""
    found: list[AlertRaised] = []

    async def told():
        found[:] = await events(world, AlertRaised, lambda one: one.subject == world.features)
        return len(found) >= 2

    await until(told, timeout_s=20)
    return sorted((one.severity.value, one.reason.partition(":")[0]) for one in found)


async def last_announcement(world, concerns):
    """Return the newest announcement of our stream once it is as it must be."""
    found: list[DatasetCommitted] = []

    async def told():
        found[:] = await events(
            world, DatasetCommitted, lambda one: one.dataset.stream == world.features
        )
        return bool(found) and concerns(found[-1])

    await until(told, timeout_s=20)
    return found[-1]


def outcomes(blocks):
    return sorted(
        (each["start"], each["expectation"], each["rows"], each["outcome"]) for each in blocks
    )


JUDGED = [
    (hour(0), "carriers-known", 9, "passed"),
    (hour(1), "carriers-known", 9, "failed"),
    (hour(1), "enough", 9, "passed"),
    (hour(2), "carriers-known", 2, "passed"),
    (hour(2), "enough", 2, "failed"),
]


async def test_blocks_are_judged_once_after_a_kill_at_every_point(world):
    await submit_hours(world)
    for point in ("after_lake", "before_commit", "after_commit"):
        await world.killed_at(point)
    async with world.process(VALIDATION_BATCH_RECORDS="3") as client:
        come = await come_to(client, world, 3)
        assert (come["rows"], come["usable_until"]) == (20, hour(1))
        path = f"/v1/streams/{world.features}/blocks"
        listed = (await client.get(path)).json()
        assert outcomes(listed) == JUDGED
        assert await alerts(world) == [("page", "carriers-known"), ("warning", "enough")]
        told = await last_announcement(world, lambda one: one.rows == 20)
        assert not told.passed
        assert told.usable_until.isoformat() == "2026-01-01T01:00:00+00:00"
        assert [(one.expectation, one.measured) for one in told.violations] == [
            ("carriers-known", 1.0)
        ]
        first = (await client.get(path, params={"limit": 2})).json()
        rest = (await client.get(path, params={"after": first[-1]["id"]})).json()
        assert [*first, *rest] == listed


async def test_a_released_block_counts_as_passed(world):
    await submit_hours(world)
    async with world.process() as client:
        await come_to(client, world, 3)
        path = f"/v1/streams/{world.features}/blocks"
        [held] = (await client.get(path, params={"state": "held"})).json()
        asked = {"ids": [held["id"]], "because": "the carriers were unknown that hour"}
        for expected in ([held["id"]], []):
            answer = await client.post(f"{path}/release", json=asked)
            assert answer.json() == {"released": len(expected), "ids": expected}
        assert (await client.get(path, params={"state": "held"})).json() == []
        [shown] = [each for each in (await client.get(path)).json() if each["id"] == held["id"]]
        assert shown["release_reason"] == asked["because"]
        assert shown["released_by"].startswith("test ")
        told = await last_announcement(world, lambda one: one.passed)
        assert told.usable_until == told.dataset.watermark
        assert (await come_to(client, world, 3))["usable_until"] == hour(3)


async def test_silence_is_noticed_on_the_wall_clock_and_told_once(world):
    fresh = {"name": "not-silent", "kind": "freshness", "at_most": "30m"}
    await send(world.producer, declared(world.features, 2, clock="wall", expectations=[fresh]))
    first = datetime.now(UTC) - timedelta(hours=4)
    await world.submit(world.features, row("f1", first.isoformat(), carrier="AA"))
    async with world.process(VALIDATION_IDLE_EVERY_S="0.2") as client:
        judged: list[dict[str, object]] = []

        async def noticed():
            answer = await client.get(f"/v1/streams/{world.features}/blocks")
            judged[:] = answer.json()
            return bool(judged)

        await until(noticed, timeout_s=20)
        assert len(judged) in (3, 4)
        assert {each["outcome"] for each in judged} == {"failed"}
        concerns = world.features

        async def told():
            found = await events(world, AlertRaised, lambda one: one.subject == concerns)
            return [one.severity.value for one in found] == ["warning"]

        await until(told, timeout_s=20)


async def test_what_cannot_be_released_is_refused(world):
    async with world.process() as client:
        path = f"/v1/streams/{world.features}/blocks/release"
        unexplained = await client.post(path, json={"ids": [1]})
        assert unexplained.status_code == 422
        assert unexplained.json()["error"]["field"] == "because"
        unknown = await client.post(
            "/v1/streams/never-declared/blocks/release", json={"because": "no such stream"}
        )
        assert unknown.status_code == 404


async def test_an_operator_lists_and_releases_blocks_from_the_command_line(world):
    await submit_hours(world)
    async with world.process() as client:
        await come_to(client, world, 3)
        held = await gyral(world, "ls", world.features)
        assert [(each["expectation"], each["outcome"]) for each in held] == [
            ("carriers-known", "failed")
        ]
        released = await gyral(world, "release", world.features, "--all", "--because", "seen")
        both = [
            each["id"] for each in await gyral(world, "ls", world.features, "--state", "all")
        ]
        assert len(released) == 2
        assert {each["id"] for each in released} < set(both)
        left = await gyral(world, "ls", world.features, "--state", "all")
        open_ones = [
            one for one in left if one["severity"] == "block" and not one["released_at"]
        ]
        assert [one["outcome"] for one in open_ones if one["outcome"] == "failed"] == []


async def gyral(world, *arguments):
    """Run `gyral blocks` and return what it prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gyral.client",
        "blocks",
        *arguments,
        "-o",
        "json",
        stdout=asyncio.subprocess.PIPE,
        env=world.env(GYRAL_VALIDATION_URL=f"http://127.0.0.1:{world.port}", GYRAL_API_KEY=KEY),
    )
    out, _ = await process.communicate()
    assert process.returncode == 0
    return orjson.loads(out)
