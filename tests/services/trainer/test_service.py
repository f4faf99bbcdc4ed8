"""The trainer as a process, among real Kafka, Postgres and S3."""

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import TypeVar

import asyncpg
import httpx
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaConsumer
from deltalake import DeltaTable, write_deltalake

from gyral.contracts.access import Scope
from gyral.contracts.data import DatasetCommitted, StreamDeclared
from gyral.contracts.evaluation import EvaluationReport
from gyral.contracts.events import Event
from gyral.contracts.names import DatasetPin
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.stream import StreamSpec
from gyral.contracts.training import (
    Cause,
    RunAdmitted,
    RunFailed,
    RunProgressed,
    RunRequested,
    RunStarted,
    RunSucceeded,
)
from gyral.contracts.versions import ModelDeclared
from gyral.kit import cloudevents
from gyral.kit.blobs import Blobs, table_options
from gyral.testkit.events import send
from gyral.testkit.keys import an_access_key
from gyral.testkit.processes import ServiceProcess

from .conftest import AS_OF, ENDS, RIDES, model_body

pytestmark = pytest.mark.live


E = TypeVar("E", bound=Event)


class Heard:
    """Everything said on a few topics about one model since the listening began."""

    def __init__(self, consumer: AIOKafkaConsumer, model: str, types: tuple[type[Event], ...]):
        self._consumer = consumer
        self._model = model
        self._types = {it.topic.name: it for it in types}
        self.events: list[Event] = []

    async def until(self, event_type: type[E], *, timeout_s: float = 90.0) -> E:
        """Return the next event of a type; the time-out is a bound, never a wait."""
        async with asyncio.timeout(timeout_s):
            while not isinstance(event := await self.next(timeout_s=timeout_s), event_type):
                pass
            return event

    async def next(self, *, timeout_s: float = 90.0) -> Event:
        """Return the next event of any type."""
        async with asyncio.timeout(timeout_s):
            async for record in self._consumer:
                event = cloudevents.parse(record, self._types[record.topic])
                if event.key == self._model:
                    self.events.append(event)
                    return event
        raise AssertionError("the consumer ended")

    def count(self, event_type: type[Event]) -> int:
        return sum(isinstance(event, event_type) for event in self.events)


@dataclass
class Names:
    """Names of this test's own, on topics all tests share."""

    tag: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    @property
    def model(self) -> str:
        return f"late-{self.tag}"

    @property
    def streams(self) -> tuple[str, str]:
        return f"rides-{self.tag}", f"ends-{self.tag}"


@pytest.fixture
def names() -> Names:
    return Names()


@pytest.fixture
def trainer(service_process) -> ServiceProcess:
    process: ServiceProcess = service_process("trainer", TRAINER_LEASE_S="2")
    return process


@pytest.fixture
def uris(stack, blobs: Blobs, tables) -> list[str]:
    s3 = stack.s3(blobs.bucket)
    return _copy_tables(tables, table_options(s3), s3.s3_bucket)


@pytest.fixture
async def heard(stack, names: Names) -> AsyncIterator[Heard]:
    types = (RunAdmitted, RunStarted, RunProgressed, RunSucceeded, RunFailed)
    topics = (it.topic.name for it in types)
    async with AIOKafkaConsumer(*topics, bootstrap_servers=stack.kafka_brokers) as consumer:
        yield Heard(consumer, names.model, types)


async def test_a_run_whose_trainer_is_killed_is_redone_and_succeeds_once(  # noqa: PLR0917
    producer, heard: Heard, names: Names, trainer, uris, blobs: Blobs, postgres_dsn
):
    rides, ends = names.streams
    await _declare(producer, names)
    await send(producer, _committed(rides, uris[0], version=0, watermark=AS_OF))
    early = AS_OF - timedelta(hours=1)
    await send(producer, _committed(ends, uris[1], version=0, watermark=early))
    trainer.start()
    await send(producer, _requested(names.model))
    await heard.until(RunAdmitted)
    # Only the labels' watermark is missing: the run waits for it without a job.
    await send(producer, _committed(ends, uris[1], version=1, watermark=AS_OF))
    await heard.until(RunProgressed)
    trainer.kill()
    trainer.start()
    succeeded = await heard.until(RunSucceeded)
    assert heard.count(RunStarted) >= 2
    assert succeeded.champion_version is None
    assert {pin.stream: pin.version for pin in succeeded.datasets} == {rides: 0, ends: 1}
    report = EvaluationReport.model_validate_json(
        await blobs.get_bytes(succeeded.artifacts.evaluation)
    )
    assert report.run_id == succeeded.run_id
    assert report.rows == succeeded.holdout_rows
    await _has_one_success(postgres_dsn, names.model)


async def test_a_run_that_cannot_be_trained_fails_at_once_and_says_why(
    producer, heard: Heard, names: Names, trainer, uris
):
    key, issued = an_access_key(Scope.ADMIN)
    await send(producer, issued)
    await _declare(producer, names, min_rows=1_000_000)
    for stream, uri in zip(names.streams, uris, strict=True):
        await send(producer, _committed(stream, uri, version=0, watermark=AS_OF))
    request = _requested(names.model)
    trainer.start()
    await send(producer, request)
    failed = await heard.until(RunFailed)
    assert failed.reason.startswith("train.min_rows: expected 1000000 rows")
    assert failed.attempts == 1
    async with httpx.AsyncClient(base_url=trainer.url) as client:
        path = f"/v1/requests/{request.request_id}"
        assert (await client.get(path)).status_code == HTTPStatus.UNAUTHORIZED
        client.headers["authorization"] = f"Bearer {key}"
        answer = (await client.get(path, params={"wait_s": 20})).json()
        assert (answer["outcome"], answer["reason"]) == ("failed", failed.reason)
        [run] = (await client.get("/v1/runs", params={"model": names.model})).json()
        assert (run["state"], run["in_flight"]) == ("failed", False)
        over = await client.post(f"/v1/runs/{run['run_id']}/cancel", json={})
        assert over.status_code == HTTPStatus.CONFLICT
        unknown = (await client.get(f"/v1/requests/{uuid.uuid4()}")).json()
        assert unknown["outcome"] == "pending"


def _copy_tables(tables, options, bucket: str) -> list[str]:
    """Put the streams into the object store; the labels get a second version."""
    uris = []
    for table in tables:
        uri = f"s3://{bucket}/lake/{table.stream}"
        rows = pa.table(DeltaTable(table.uri).to_pyarrow_table())
        half = len(rows) // 2
        if table.stream == "ends":
            write_deltalake(uri, rows.slice(0, half), storage_options=dict(options))
            rows = rows.slice(half)
        write_deltalake(uri, rows, mode="append", storage_options=dict(options))
        uris.append(uri)
    return uris


async def _declare(producer, names: Names, **train: object) -> None:
    rides, ends = names.streams
    for name, body in ((rides, RIDES), (ends, ENDS)):
        stream = {
            "apiVersion": "gyral/v1",
            "kind": "Stream",
            "metadata": {"name": name},
            "spec": body,
        }
        spec = StreamSpec.model_validate(stream)
        await send(producer, StreamDeclared(name=name, generation=1, spec=spec))
    body = json.loads(model_body(**train).model_dump_json())
    body["features"]["stream"], body["label"]["stream"] = rides, ends
    document = {
        "apiVersion": "gyral/v1",
        "kind": "Model",
        "metadata": {"name": names.model},
        "spec": body,
    }
    declared = ModelSpec.model_validate(document)
    await send(producer, ModelDeclared(name=names.model, generation=1, spec=declared))


def _committed(stream: str, uri: str, *, version: int, watermark) -> DatasetCommitted:
    pin = DatasetPin(stream=stream, version=version, watermark=watermark)
    return DatasetCommitted(dataset=pin, rows=1, table_uri=uri)


def _requested(model: str) -> RunRequested:
    return RunRequested(
        request_id=str(uuid.uuid4()),
        model=model,
        cause=Cause.BOOTSTRAP,
        as_of=AS_OF,
        spec_generation=1,
    )


async def _has_one_success(dsn: str, model: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        # The topics are the session's: runs of other tests' models may be in the table too.
        [row] = await connection.fetch(
            "SELECT run_id, state, in_flight, attempt FROM run WHERE model = $1", model
        )
        assert (row["state"], row["in_flight"]) == ("succeeded", True)
        assert row["attempt"] >= 2
        done = await connection.fetchval(
            "SELECT count(*) FROM job WHERE state = 'done' AND spec LIKE '%' || $1 || '%'",
            str(row["run_id"]),
        )
        assert done == 1
    finally:
        await connection.close()
