"""Validation end to end: nothing lost, nothing doubled, whatever dies when."""

import asyncio
import uuid
from datetime import UTC, datetime

import asyncpg
import orjson
import pytest
from deltalake import DeltaTable

from gyral.contracts.data import DatasetCommitted
from gyral.contracts.names import DatasetPin
from gyral.contracts.training import RunStarted
from gyral.modelling.contents import Content
from gyral.testkit.events import send
from gyral.testkit.waiting import until
from tests.services.validation.conftest import RECORDS, declared, read_all, row

pytestmark = [pytest.mark.live, pytest.mark.timeout(240)]
DAY = "2026-01-02T00:00:00Z"


async def progress(client, stream, *, watermark=DAY, wait_s=20):
    answer = await client.get(
        f"/v1/streams/{stream}/progress", params={"watermark": watermark, "wait_s": wait_s}
    )
    assert answer.status_code == 200, answer.text
    return answer.json()


def in_the_lake(world, stream):
    table = DeltaTable(world.table_uri(stream), storage_options=world.table_options())
    rows = table.to_pyarrow_table().to_pylist()
    places = ("_partition", "_offset", "_row")
    return {tuple(found[name] for name in places): found for found in rows}, len(rows)


def in_the_lake_at(world, stream, version):
    """What a version holds, by reading it."""
    options = world.table_options()
    table = DeltaTable(world.table_uri(stream), version=version, storage_options=options)
    return Content.of_rows(table.to_pyarrow_table().to_pylist())


async def accounts(world):
    """Return where the rows in quarantine, duplicate and marker lie."""
    conn = await asyncpg.connect(world.dsn)
    try:
        return [
            tuple(entry)
            for name, row in (("quarantine", "row"), ("duplicate", "row"), ("marker", "0"))
            for entry in await conn.fetch(
                f'SELECT partition, "offset", {row} FROM {name} WHERE topic = $1',  # noqa: S608
                RECORDS,
            )
        ]
    finally:
        await conn.close()


async def submit_a_day(world):
    """Send good, repeated, conflicting, misplaced and bad rows of two streams, then markers."""
    good = [row(f"f{number}", carrier="AA") for number in range(60)]
    places = await world.submit(world.features, *good[:40])
    places += await world.submit_together(world.features, *good[40:])
    repeated = await world.submit(world.features, *good[:7])
    conflicting = await world.submit(world.features, row("f1", carrier="UA"))
    bad = await world.submit(world.features, row("b1", carrier="ZZ"), row("b2", at="yesterday"))
    bad += await world.submit_together(world.features, row("b3", carrier="ZZ"))
    none_in_utc = "0001-01-01T00:00:00+14:00"
    bad += await world.submit_together(world.features, row("b5", at=none_in_utc))
    bad.append(await world.put(b"\xff{"))
    bad += await world.submit(world.features, row("b4"), misplaced=True)
    labels = await world.submit(
        world.labels, *[row(f"f{number}", delay=number) for number in range(40)]
    )
    for stream in (world.features, world.labels):
        await world.mark(stream, DAY)
    return places, labels, [*repeated, *conflicting, *bad]


async def test_each_offset_has_one_place_after_a_kill_at_every_point(world):
    features, labels, others = await submit_a_day(world)
    for point in ("after_lake", "after_labels", "before_commit", "after_commit"):
        await world.killed_at(point)
    async with world.process() as client:
        come = await progress(client, world.features)
        assert (come["rows"], come["quarantined"], come["duplicates"]) == (60, 6, 7)
        await progress(client, world.labels)
        for dataset in (await client.get("/v1/datasets")).json():
            content = in_the_lake_at(world, dataset["stream"], dataset["version"])
            assert (dataset["rows"], dataset["content"]) == (content.rows, content.digest)
    found, rows = in_the_lake(world, world.features)
    assert (set(found), rows) == (set(features), 60)
    found, rows = in_the_lake(world, world.labels)
    assert (set(found), rows) == (set(labels), 40)
    elsewhere = await accounts(world)
    assert len(elsewhere) == len(set(elsewhere))
    assert set(others) <= set(elsewhere)
    assert not set(elsewhere) & {*features, *labels}


async def test_labels_are_told_on_and_then_the_time_they_reach(world):
    await submit_a_day(world)
    await world.killed_at("after_forward")
    async with world.process() as client:
        await progress(client, world.labels)
        async with asyncio.timeout(20):
            while not all_marked(told := await world.label_topic()):
                pass
    assert {key for events in told.values() for kind, key in events if kind == "label"} == {
        f"f{number}" for number in range(40)
    }
    for events in told.values():
        kinds = [kind for kind, _ in events]
        assert kinds.index("marker") >= kinds.count("label")


def all_marked(told):
    """Tell whether each partition ends in a marker."""
    return len(told) == 3 and all(("marker", DAY) in events for events in told.values())


async def test_datasets_are_announced_with_version_and_watermark(world):
    await submit_a_day(world)
    async with world.process() as client:
        come = await progress(client, world.features)
        listed = await datasets(client, world.features)
        shown = (await client.get(f"/v1/datasets/{world.features}")).json()
        assert shown == listed[-1]
        measured = (await client.get("/metrics")).text
        for name in (
            "gyral_lake_commit_seconds",
            "gyral_validation_rows",
            'gyral_validation_rejects_total{otel_scope_name="gyral",',
        ):
            assert name in measured
        assert listed[-1]["version"] == come["version"]
        assert listed[-1]["watermark"] == DAY
        async with asyncio.timeout(20):
            while not (announced := await announcements(world)):
                pass
    assert announced[-1].rows == 60
    pin = announced[-1].dataset
    assert (pin.content, pin.schema_version) == (listed[-1]["content"], 1)
    assert pin.content == in_the_lake_at(world, world.features, pin.version).digest
    assert announced[-1].table_uri == world.table_uri(world.features)


async def announcements(world):
    topic = DatasetCommitted.topic.name
    events = [
        DatasetCommitted.model_validate_json(record.value)
        async for record in read_all(world.backends.kafka_brokers, topic)
    ]
    return [event for event in events if event.dataset.stream == world.features]


async def test_refused_rows_are_listed_and_judged_again_once(world):
    later = f"{world.features}-x"
    await world.submit(later, row("n1"))
    async with world.process() as client:
        async with asyncio.timeout(20):
            while not (listed := await quarantine(client, later)):
                pass
        assert [found["reason"] for found in listed] == ["unknown_stream"]
        await send(world.producer, declared(later))
        for expected in (1, 0):
            assert len(await judged_again(client, later)) == expected
        come = await kept(client, later, rows=1)
    assert come["quarantined"] == 0
    _, rows = in_the_lake(world, later)
    assert rows == 1


async def test_rows_judged_again_keep_their_account_through_kills(world):
    later = f"{world.features}-y"
    good, bad = await world.submit(later, row("n1"), row("n2", carrier="ZZ"))
    async with world.process() as client:
        async with asyncio.timeout(20):
            while len(listed := await quarantine(client, later)) < 2:
                pass
    ids = {(each["partition"], each["offset"], each["row"]): each["id"] for each in listed}
    await send(world.producer, declared(later))
    async with world.dying_at("after_lake") as client:
        assert sorted(await judged_again(client, later)) == sorted(ids.values())
    for point in ("before_commit", "after_commit"):
        await world.killed_at(point)
    async with world.process() as client:
        await kept(client, later, rows=1)
        async with asyncio.timeout(20):
            while not (again := (await quarantine(client, later))[2:]):
                pass
        assert await judged_again(client, later, reason="range") == []
    assert [(found["record_key"], found["reason"], found["origin"]) for found in again] == [
        ("n2", "allowed", ids[bad])
    ]
    found, rows = in_the_lake(world, later)
    assert rows == 1
    assert not set(found) & {good, bad}
    elsewhere = await accounts(world)
    assert len(elsewhere) == len(set(elsewhere))


async def kept(client, stream, *, rows):
    async with asyncio.timeout(20):
        while True:
            come = await progress(client, stream, watermark="1970-01-01T00:00:00Z", wait_s=0)
            if come["rows"] == rows:
                return come


async def judged_again(client, stream, **chosen):
    body = {"stream": stream, "because": "it is declared now", **chosen}
    answer = await client.post("/v1/quarantine/replay", json=body)
    assert answer.status_code == 202, answer.text
    return answer.json()["ids"]


async def quarantine(client, stream):
    answer = await client.get("/v1/quarantine", params={"stream": stream})
    return orjson.loads(answer.content)


async def test_on_the_wall_clock_time_passes_while_nothing_comes(world):
    walled = f"{world.features}-w"
    await send(world.producer, declared(walled, clock="wall", lateness="1s"))
    asked = datetime.now(UTC).isoformat()
    async with world.process(VALIDATION_IDLE_EVERY_S="0.2") as client:
        come = await progress(client, walled, watermark=asked)
        held = await progress(
            client, world.features, watermark="1970-01-01T00:00:00Z", wait_s=0
        )
    assert come["watermark"] >= asked[:19]
    assert held["watermark"] is None


async def test_rows_past_their_streams_retention_go_and_pinned_versions_keep_them(world):
    await send(world.producer, declared(world.features, 2, retention="32h"))
    days = ["2026-01-01T00:00:00Z", "2026-01-01T12:00:00Z", "2026-01-03T00:00:00Z"]
    await world.submit(
        world.features, *[row(f"f{number}", day) for number, day in enumerate(days)]
    )
    await world.mark(world.features, "2026-01-03T00:00:00Z")
    async with world.process(VALIDATION_RETIRE_EVERY_S="0.2") as client:
        come = await progress(client, world.features, watermark="2026-01-03T00:00:00Z")
        async with asyncio.timeout(20):
            while (listed := await datasets(client, world.features))[-1]["rows"] != 1:
                pass
    found, _ = in_the_lake(world, world.features)
    assert {one["flight_id"] for one in found.values()} == {"f2"}
    for dataset in listed:
        content = in_the_lake_at(world, world.features, dataset["version"])
        assert (dataset["rows"], dataset["content"]) == (content.rows, content.digest)
    assert (come["rows"], listed[0]["rows"]) == (3, 3)


async def datasets(client, stream):
    return (await client.get("/v1/datasets", params={"stream": stream})).json()


async def test_rows_that_no_other_can_meet_any_more_are_forgotten_as_often_as_told(world):
    await world.submit(world.features, row("f1", "2026-01-01T00:00:00Z"))
    knobs = {"VALIDATION_REMEMBER_H": "0", "VALIDATION_FORGET_EVERY_S": "0.2"}
    conn = await asyncpg.connect(world.dsn)
    of_ours = f"stream = '{world.features}'"
    remembered = f"SELECT count(*) FROM identity_segment WHERE {of_ours}"  # noqa: S608 - ours
    try:
        async with world.process(**knobs) as client:
            await kept(client, world.features, rows=1)
            assert await conn.fetchval(remembered) == 1
            await world.mark(world.features, "2026-02-01T00:00:00Z")
            await until(lambda: gone(conn, remembered))
    finally:
        await conn.close()


async def gone(conn, remembered):
    return not await conn.fetchval(remembered)


async def test_what_a_run_begins_with_is_pinned(world):
    pins = [
        DatasetPin(stream=stream, version=version, watermark=datetime(2026, 1, 1, tzinfo=UTC))
        for version, stream in enumerate((world.features, world.labels), start=3)
    ]
    ids = {"request_id": str(uuid.uuid4()), "run_id": str(uuid.uuid4()), "model": world.model}
    await send(world.producer, RunStarted(**ids, attempt=1, datasets=tuple(pins)))
    connection = await asyncpg.connect(world.dsn)

    async def pinned():
        rows = await connection.fetch(
            "SELECT stream, version FROM pin WHERE stream = ANY($1)",
            [world.features, world.labels],
        )
        return {tuple(row) for row in rows} == {(world.features, 3), (world.labels, 4)}

    async with world.process():
        await until(pinned)
    await connection.close()
