import tempfile
from dataclasses import replace
from importlib import resources
from pathlib import Path

import pytest

from gyral.deployer.store import DeployerTx
from gyral.kit.migrate import migrate
from gyral.kit.tx import begin
from tests.services.deployer.builders import Deployer
from tests.services.deployer.cluster import a_cluster
from tests.services.deployer.pods import IMAGES, NAMESPACE, RULES, connected, volumes


@pytest.fixture
async def deployer(pool):
    return await _migrated(pool)


@pytest.fixture
async def wall_deployer(pool):
    """One whose model's time is the wall clock's: no marker moves it."""
    return await _migrated(pool, event_clock=False)


@pytest.fixture
def deployer_with(pool):
    """Make one whose model is rolled out otherwise, on a wall clock unless told."""

    async def make(*, event_clock=False, **rollout):
        return await _migrated(pool, event_clock=event_clock, **rollout)

    return make


async def _migrated(pool, **given):
    await migrate(pool, resources.files("gyral.deployer") / "migrations", service="deployer")
    return Deployer(pool, begin(pool, DeployerTx, service="deployer"), **given)


@pytest.fixture
def cluster():
    """A cluster with the runtimes' namespace, in which no store is there."""
    with (
        tempfile.TemporaryDirectory(prefix="k8s-") as folder,
        a_cluster(
            Path(folder),
            namespace=NAMESPACE,
            rules=RULES,
            volumes=replace(volumes(), images=set()),
        ) as found,
    ):
        yield found


@pytest.fixture
async def backend(cluster):
    """The deployer's backend in that cluster."""
    async with connected(cluster) as found:
        yield found


@pytest.fixture
def images(cluster):
    """Have the cluster's machines find the runtimes' images: only then do pods start."""
    cluster.kubelet.volumes.images |= IMAGES
