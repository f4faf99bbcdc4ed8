"""The monitor as a process among real Kafka, Postgres and S3: killed, and still right."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from http import HTTPStatus

import httpx
import pytest

from gyral.contracts.access import Scope
from gyral.contracts.data import StreamDeclared
from gyral.contracts.training import Artifacts
from gyral.contracts.versions import ChampionChanged, ModelDeclared
from gyral.monitor.domain.watches import to_datetime
from gyral.testkit.events import send
from gyral.testkit.keys import an_access_key
from gyral.testkit.processes import ServiceProcess

from .builders import DAY_US, START_US, a_log, a_model, a_profile, a_stream

pytestmark = pytest.mark.live
DAYS = 9
TAG = uuid.uuid4().hex[:8]
MODEL, STREAMS = f"delays-{TAG}", (f"flights-{TAG}", f"arrivals-{TAG}")


@pytest.fixture
async def monitor(service_process) -> ServiceProcess:
    process: ServiceProcess = service_process("monitor")
    return process


@pytest.fixture
async def client(monitor, producer) -> AsyncIterator[httpx.AsyncClient]:
    key, issued = an_access_key(Scope.READ)
    await send(producer, issued)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=monitor.url, headers=headers, timeout=30) as opened:
        yield opened


async def declare(producer, blobs):
    """Declare streams and model and crown a champion, as the registry would."""
    for name in STREAMS:
        await send(producer, StreamDeclared(name=name, generation=1, spec=a_stream(name)))
    await send(
        producer, ModelDeclared(name=MODEL, generation=1, spec=a_model(MODEL, streams=STREAMS))
    )
    profile = await blobs.put_bytes("profile.json", a_profile().to_json())
    others = ("onnx", "manifest", "golden", "evaluation")
    champion = ChampionChanged(
        model=MODEL,
        generation=1,
        version=1,
        run_id=str(uuid.UUID(int=1)),
        as_of=to_datetime(START_US),
        artifacts=Artifacts(profile=profile, **dict.fromkeys(others, profile)),
        actor="deployer",
        reason="rollout completed",
    )
    await send(producer, champion)


async def write(producer, log, days):
    """Write the records of some days to both logs, each partition's in order."""
    ends = {place: len(records) for place, records in a_log(days[1]).partitions.items()}
    begins = {place: len(records) for place, records in a_log(days[0]).partitions.items()}
    for place, records in log.partitions.items():
        for record in records[begins[place] : ends[place]]:
            await producer.send(
                record.topic,
                record.value,
                key=b"any",
                partition=record.partition,
                headers=record.headers,
            )
    await producer.flush()


async def measured(client, day):
    """Return the progress once the model is measured up to the end of a day."""
    until = to_datetime(START_US + (day + 1) * DAY_US)
    async with asyncio.timeout(60):
        while True:
            answer = await client.get(
                f"/v1/models/{MODEL}/progress",
                params={"watermark": until.isoformat(), "wait_s": 20},
            )
            assert answer.status_code == HTTPStatus.OK, answer.text
            found = answer.json()
            reached = found["measured_until"]
            if reached and reached >= until.isoformat().replace("+00:00", "Z"):
                return found


async def test_a_killed_monitor_goes_on_where_it_was(monitor, producer, blobs, client):
    await declare(producer, blobs)
    log = a_log(DAYS, model=MODEL, stream=STREAMS[1])
    monitor.start()
    await write(producer, log, (0, 5))
    assert (await measured(client, 4))["requests"] == []
    await write(producer, log, (5, 7))
    monitor.kill()
    monitor.start()
    await write(producer, log, (7, DAYS))
    progress = await measured(client, DAYS - 1)
    windows = (await client.get(f"/v1/models/{MODEL}/windows")).json()
    assert [it["rows"] for it in windows] == [40] * (DAYS - 1)
    assert all(it["labelled_rows"] == 40 for it in windows)
    assert all(it["measures"]["drift_max_z"] is not None for it in windows)
    alarms = (await client.get(f"/v1/models/{MODEL}/alarms")).json()
    asked = {it["request_id"] for it in progress["requests"]}
    assert asked
    assert {it["request_id"] for it in alarms if it["detector"] != "drift"} == asked
    known = (await client.get("/v1/projections")).json()
    assert known[ChampionChanged.topic.name][MODEL] == 1
    del client.headers["authorization"]
    refused = await client.get(f"/v1/models/{MODEL}/progress")
    assert refused.status_code == HTTPStatus.UNAUTHORIZED
