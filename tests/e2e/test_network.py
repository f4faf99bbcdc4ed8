"""A network served as torch, from its declaration to its answers, through real services.

The test stands in for validation, which would commit the tables, and nobody asks for the
training: a model that has no version yet asks for itself.
"""

import json
import os
import secrets
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pyarrow as pa
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from deltalake import DeltaTable, write_deltalake

from gyral.contracts.access import Scope
from gyral.contracts.data import DatasetCommitted
from gyral.contracts.deployment import RolloutAborted, RolloutCompleted
from gyral.contracts.evaluation import GoldenRows
from gyral.contracts.names import DatasetPin
from gyral.contracts.training import RunFailed, RunSucceeded
from gyral.contracts.versions import VersionRejected
from gyral.deployer.engine.holding import holder
from gyral.kit.blobs import table_options
from gyral.testkit.backends import fresh_schema
from gyral.testkit.events import send
from gyral.testkit.keys import an_access_key
from gyral.testkit.processes import ServiceProcess
from gyral.testkit.waiting import until
from tests.services.trainer.conftest import AS_OF, ENDS, RIDES, model_body, write_streams
from tests.services.trainer.test_service import Heard

pytestmark = [pytest.mark.live, pytest.mark.torch, pytest.mark.timeout(300)]
pytest.importorskip("torch")
TAG = secrets.token_hex(4)
MODEL, STREAMS = f"late-{TAG}", {"rides": f"rides-{TAG}", "ends": f"ends-{TAG}"}
LENIENT = {"slices": [], "calibration": 0.5, "ece": 0.5, "log_loss": {"min_blocks": 2}}
SMALL = {"serve": "torch", "epochs": 6, "learning_rate": 0.01, "width": 8, "blocks": 1}
ENDED = (RunSucceeded, RunFailed, VersionRejected, RolloutCompleted, RolloutAborted)


@pytest.fixture
async def databases(stack) -> AsyncIterator[dict[str, str]]:
    async with AsyncExitStack() as undo:
        names = ("registry", "trainer", "deployer")
        yield {name: await undo.enter_async_context(fresh_schema(stack)) for name in names}


@pytest.fixture
def services(stack, blobs, databases, tmp_path_factory) -> Iterator[dict[str, ServiceProcess]]:
    folder = tmp_path_factory.mktemp("n")
    sockets = tmp_path_factory.getbasetemp() / "s"
    of = {
        "registry": {"REGISTRY_ADMIN_KEY": secrets.token_hex(16)},
        "trainer": {},
        "deployer": {"DEPLOYER_BACKEND": "process", "DEPLOYER_SOCKETS": str(sockets)},
        "gateway": {},
    }
    made = {
        name: ServiceProcess(
            f"gyral.{name}",
            {
                **stack.service_env(database=databases.get(name, ""), bucket=blobs.bucket),
                "STATE_DIR": str(folder / name),
                "INSTANCE_ID": f"{name}-{TAG}",
                "SERVICE_KEY": TAG,
                **env,
            },
            folder / f"{name}.log",
        )
        for name, env in of.items()
    }
    yield made
    for process in made.values():
        process.stop()
    for lock in (folder / "deployer" / "runtimes").glob("groups/*/*/lock"):
        if (pid := holder(lock)) is not None:
            os.killpg(pid, signal.SIGKILL)


def documents():
    body = json.loads(model_body(trainer="torch.transformer", folds=2).model_dump_json())
    body["train"]["parameters"], body["gates"] = SMALL, LENIENT
    body["features"]["stream"], body["label"]["stream"] = STREAMS["rides"], STREAMS["ends"]
    body["serving"] = {"runtime": "own"}
    for name, spec in (("rides", RIDES), ("ends", ENDS)):
        yield "Stream", STREAMS[name], json.loads(spec.model_dump_json())
    yield "Model", MODEL, body


def declare(registry, key):
    """Apply what `gyral apply` would; return what the registry says of the model alone."""
    for kind, name, spec in documents():
        document = {"apiVersion": "gyral/v1", "kind": kind, "metadata": {"name": name}}
        answer = httpx.post(
            f"{registry.url}/v1/specs",
            json={**document, "spec": spec},
            headers={"authorization": f"Bearer {key}"},
        )
        assert answer.status_code == 200, answer.text


async def commit(producer, stack, blobs, folder):
    """Put both tables into the lake and say so."""
    s3 = stack.s3(blobs.bucket)
    for table in write_streams(folder, rows=6000):
        uri = f"s3://{s3.s3_bucket}/lake/{table.stream}"
        rows = pa.table(DeltaTable(table.uri).to_pyarrow_table())
        write_deltalake(uri, rows, storage_options=dict(table_options(s3)))
        pin = DatasetPin(stream=STREAMS[table.stream], version=0, watermark=AS_OF)
        await send(producer, DatasetCommitted(dataset=pin, rows=len(rows), table_uri=uri))


def is_ready(gateway, key):
    answer = httpx.get(
        f"{gateway.url}/v2/models/{MODEL}/ready", headers={"authorization": f"Bearer {key}"}
    )
    return answer.status_code == 200


def asked(gateway, key, golden):
    """Return what the gateway answers to golden rows."""
    times = [AS_OF.isoformat()] * len(golden.probabilities)
    answer = httpx.post(
        f"{gateway.url}/v1/models/{MODEL}:predict",
        json={"columns": {**golden.columns, "event_time": times}},
        headers={"authorization": f"Bearer {key}"},
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    return answer.json()["predictions"]


async def test_a_declared_network_is_trained_judged_and_answers_as_it_was_fitted(
    stack, blobs, services, tmp_path
):
    key, issued = an_access_key(Scope.ADMIN)
    topics = [each.topic.name for each in ENDED]
    async with (
        AIOKafkaProducer(bootstrap_servers=stack.kafka_brokers) as producer,
        AIOKafkaConsumer(*topics, bootstrap_servers=stack.kafka_brokers) as consumer,
    ):
        heard = Heard(consumer, MODEL, ENDED)
        await send(producer, issued)
        for name in ("registry", "trainer", "deployer"):
            services[name].start(health="/health/live")
        services["registry"].wait_for()
        declare(services["registry"], key)
        await commit(producer, stack, blobs, Path(tmp_path, "lake"))
        succeeded = await heard.next(timeout_s=200)
        assert isinstance(succeeded, RunSucceeded), succeeded
        assert succeeded.artifacts.code is not None
        services["gateway"].start(health="/v2/health/live")
        completed = await heard.next(timeout_s=200)
        assert isinstance(completed, RolloutCompleted), completed
    golden = GoldenRows.model_validate_json(await blobs.get_bytes(succeeded.artifacts.golden))
    # The gateway as a whole may wait for runtimes of other tests' models, which have gone.
    await until(lambda: is_ready(services["gateway"], key))
    assert asked(services["gateway"], key, golden) == pytest.approx(
        golden.probabilities, abs=golden.tolerance
    )
