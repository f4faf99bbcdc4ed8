"""What tests of the deployer's backend in a cluster share."""

import asyncio
import random
import secrets
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import yaml

from gyral.contracts.deployment import Datatype, Input, Share
from gyral.deployer.engine.backend import GroupSpec
from gyral.deployer.engine.kubernetes import Cluster, Kubernetes
from gyral.deployer.engine.workloads import Pods, workload
from gyral.gateway.engine.link import Link
from gyral.gateway.engine.probing import missing
from gyral.testkit.processes import free_port
from gyral.testkit.waiting import until

from .cluster.kubelet import Volumes
from .cluster.objects import DEPLOYMENT

ROOT = Path(__file__).parents[3]
ACCESS = list(yaml.safe_load_all((ROOT / "infra/kubernetes/access.yaml").read_text()))
[RULES] = [each["rules"] for each in ACCESS if each["kind"] == "Role"]
NAMESPACE = "gyral-runtimes"
IMAGES = {"gyral:0.1.0", "gyral:0.1.0-torch"}
KEY = secrets.token_hex(16)
PODS = Pods(
    NAMESPACE, "gyral:0.1.0", "gyral:0.1.0-torch", cpu="500m", memory="2Gi", settled_s=0
)
FLIGHTS = GroupSpec("flights", 1, most=3, queue_s=0.05)
SHARE = Share(
    version=1,
    weight=100,
    slot="m@1",
    sha256="0" * 64,
    inputs=(Input(name="x", datatype=Datatype.FP64),),
)


def volumes(**s3):
    externals = {
        "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "S3_BUCKET": "gyral",
        "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "",
    }
    return Volumes(
        configs={"gyral-externals": {**externals, **s3}},
        secrets={
            "gyral-s3": {"S3_ACCESS_KEY": "none", "S3_SECRET_KEY": "none"},
            "gyral-keys": {"service.key": KEY},
        },
        images={*IMAGES},
    )


def where(cluster, **other):
    found = Cluster(
        "127.0.0.1", cluster.port, cluster.credentials, timeout_s=10, rest_s=0, fresh_s=0
    )
    return replace(found, **other)


@asynccontextmanager
async def connected(cluster, pods=PODS, **other):
    backend = Kubernetes(where(cluster, **other), pods)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


def replicas(cluster, group="flights"):
    return cluster.do(cluster.objects.get, DEPLOYMENT, NAMESPACE, workload(group))["spec"][
        "replicas"
    ]


async def ready(backend, count, group="flights"):
    """Return the members of a group once so many are ready, and no more are there."""

    async def there():
        members = (await backend.groups()).get(group, ())
        return [each.ready for each in members] == [True] * count

    try:
        await until(there, timeout_s=60)
    except TimeoutError:
        raise AssertionError(
            f"expected {count} ready; found {await backend.groups()}"
        ) from None
    return (await backend.groups())[group]


@asynccontextmanager
async def linked(address, key=KEY):
    link = Link(address, random.Random(1), key)
    keeping = asyncio.create_task(link.keep())
    try:
        yield link
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


async def answered(member):
    """Ask a member over both of its addresses."""
    async with httpx.AsyncClient(trust_env=False) as client:
        index = await client.post(
            f"{member.control}/v2/repository/index",
            headers={"authorization": f"Bearer {KEY}"},
        )
        assert (index.status_code, index.json()) == (200, [])
    async with linked(member.data) as link:
        await until(lambda: link.up)
        assert (
            await missing(link, SHARE, 10) == "m@1: expected sha256 000000000000; found nothing"
        )
