"""The trainer as a process, among real Kafka, Postgres and S3."""

import asyncio
import json
import os
import signal
import socket
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import asyncpg
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from deltalake import DeltaTable, write_deltalake

from gyral.contracts.data import DatasetCommitted, StreamDeclared
from gyral.contracts.evaluation import EvaluationReport
from gyral.contracts.events import Event
from gyral.contracts.names import DatasetPin
from gyral.contracts.specs.document import Metadata
from gyral.contracts.specs.model import ModelSpec
from gyral.contracts.specs.stream import StreamSpec
from gyral.contracts.training import (
    Cause,
    RunAdmitted,
    RunProgressed,
    RunRequested,
    RunStarted,
    RunSucceeded,
)
from gyral.contracts.versions import ModelDeclared
from gyral.kit import cloudevents
from gyral.kit.blobs import Blobs, table_options
from gyral.testkit.events import send

from .conftest import AS_OF, ENDS, RIDES, model_body

pytestmark = pytest.mark.live


def _free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port: int = listening.getsockname()[1]
        return port


@asynccontextmanager
async def service(environment: dict[str, str]) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gyral.trainer", env={**os.environ, **environment}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await process.wait()


class Heard:
    """Everything said on a few topics about one model since the listening began."""

    def __init__(self, consumer: AIOKafkaConsumer, model: str, types: tuple[type[Event], ...]):
        self._consumer = consumer
        self._model = model
        self._types = {it.topic.name: it for it in types}
        self.events: list[Event] = []

    async def until(self, event_type: type[Event], *, timeout_s: float = 90.0) -> Event:
        async with asyncio.timeout(timeout_s):
            async for record in self._consumer:
                event = cloudevents.parse(record, self._types[record.topic])
                if event.key != self._model:
                    continue
                self.events.append(event)
                if isinstance(event, event_type):
                    return event
        raise AssertionError("the consumer ended")

    def count(self, event_type: type[Event]) -> int:
        return sum(isinstance(event, event_type) for event in self.events)


async def test_a_run_whose_trainer_is_killed_is_redone_and_succeeds_once(
    stack, blobs: Blobs, postgres_dsn, tables, tmp_path: Path
):
    model, rides, ends = (
        f"{name}-{uuid.uuid4().hex[:8]}" for name in ("late", "rides", "ends")
    )
    s3 = stack.s3(blobs.bucket)
    environment = {
        "KAFKA_BROKERS": stack.kafka_brokers,
        "DATABASE": postgres_dsn,
        "S3_ENDPOINT": s3.s3_endpoint,
        "S3_ACCESS_KEY": s3.s3_access_key,
        "S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
        "S3_BUCKET": s3.s3_bucket,
        "HTTP_PORT": str(_free_port()),
        "STATE_DIR": str(tmp_path),
        "INSTANCE_ID": f"trainer-{model}",
        "OMP_NUM_THREADS": "1",
        "TRAINER_LEASE_S": "2",
    }
    uris = _copy_tables(tables, table_options(s3), s3.s3_bucket)
    heard_types = (RunAdmitted, RunStarted, RunProgressed, RunSucceeded)
    async with (
        AIOKafkaProducer(bootstrap_servers=stack.kafka_brokers) as producer,
        AIOKafkaConsumer(
            *(it.topic.name for it in heard_types), bootstrap_servers=stack.kafka_brokers
        ) as consumer,
    ):
        heard = Heard(consumer, model, heard_types)
        await _declare(producer, model, {rides: RIDES, ends: ENDS})
        for (stream, uri), watermark in zip(
            zip((rides, ends), uris, strict=True),
            (AS_OF, AS_OF - timedelta(hours=1)),
            strict=True,
        ):
            await send(producer, _committed(stream, uri, version=0, watermark=watermark))
        async with service(environment) as doomed:
            await send(producer, _requested(model))
            await heard.until(RunAdmitted)
            # Only the labels' watermark is missing: the run waits for it without a job.
            await send(producer, _committed(ends, uris[1], version=1, watermark=AS_OF))
            await heard.until(RunProgressed)
            doomed.kill()
            await doomed.wait()
        async with service(environment):
            succeeded = await heard.until(RunSucceeded)
        assert isinstance(succeeded, RunSucceeded)
        assert heard.count(RunStarted) >= 2
        assert succeeded.champion_version is None
        assert {pin.stream: pin.version for pin in succeeded.datasets} == {rides: 0, ends: 1}
        report = EvaluationReport.model_validate_json(
            await blobs.get_bytes(succeeded.artifacts.evaluation)
        )
        assert report.run_id == succeeded.run_id
        assert report.rows == succeeded.holdout_rows
    await _has_one_success(postgres_dsn)


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


async def _declare(producer, model: str, streams) -> None:
    for name, body in streams.items():
        spec = StreamSpec(
            apiVersion="gyral/v1", kind="Stream", metadata=Metadata(name=name), spec=body
        )
        await send(producer, StreamDeclared(name=name, generation=1, spec=spec))
    body = json.loads(model_body().model_dump_json())
    rides, ends = streams
    body["features"]["stream"], body["label"]["stream"] = rides, ends
    # Only what was given: a trigger names exactly one of its fields.
    document = {
        "apiVersion": "gyral/v1",
        "kind": "Model",
        "metadata": {"name": model},
        "spec": body,
    }
    spec = ModelSpec.model_validate(document)
    await send(producer, ModelDeclared(name=model, generation=1, spec=spec))


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


async def _has_one_success(dsn: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        [row] = await connection.fetch("SELECT state, in_flight, attempt FROM run")
        assert (row["state"], row["in_flight"]) == ("succeeded", True)
        assert row["attempt"] >= 2
        assert await connection.fetchval("SELECT count(*) FROM job WHERE state = 'done'") == 1
    finally:
        await connection.close()
