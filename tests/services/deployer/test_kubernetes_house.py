"""From a group that is wanted to a prediction, in a cluster whose pods are real processes."""

import tempfile
from array import array
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from gyral.contracts.training import Artifacts
from gyral.deployer.engine.backend import GroupSpec
from gyral.deployer.engine.runtimes import Runtime
from gyral.gateway.engine.batcher import Batcher
from gyral.kit.db import is_infrastructure
from gyral.testkit.waiting import until

from .cluster import a_cluster
from .house import GOLDEN, a_version
from .pods import KEY, NAMESPACE, RULES, SHARE, connected, linked, ready, volumes

pytestmark = pytest.mark.live
GROUP = GroupSpec("m", 1, most=2)


@contextmanager
def a_cluster_with_a_store(stack, bucket):
    """Yield a cluster whose pods are given the object store's address and keys."""
    s3 = stack.s3(bucket)
    given = volumes(S3_ENDPOINT=s3.s3_endpoint, S3_BUCKET=s3.s3_bucket)
    given.secrets["gyral-s3"] = {
        "S3_ACCESS_KEY": s3.s3_access_key,
        "S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
    }
    with (
        tempfile.TemporaryDirectory(prefix="k8s-") as folder,
        a_cluster(Path(folder), namespace=NAMESPACE, rules=RULES, volumes=given) as cluster,
    ):
        yield cluster


async def approved(blobs, files):
    """Return where the files of an approved version lie."""
    refs = {
        part: await blobs.put_bytes(f"m/{part}", getattr(files, part))
        for part in ("onnx", "manifest", "golden")
    }
    return Artifacts(**refs, profile=refs["golden"], evaluation=refs["golden"])


async def reconciled(member, artifacts):
    """Load a version as the deployer does, over the member's control address."""
    headers = {"authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(headers=headers, timeout=90, trust_env=False) as client:
        runtime = Runtime(client, member.control)
        await runtime.load("m@1", artifacts)
        assert await runtime.held() == {"m@1": artifacts.onnx.sha256}


async def predicted(member, sha256, x):
    """Ask as a gateway does, through its queue and its link to the member's data address."""
    share = SHARE.model_copy(update={"sha256": sha256})
    async with linked(member.data) as link:
        batcher = Batcher(link, share, 5.0)
        [probability] = await batcher.ask([array("d", [x]).tobytes()], 1, 10.0)
        batcher.close()
        return probability


async def test_a_version_answers_from_a_pod_also_when_its_process_or_the_pod_is_lost(
    stack, blobs
):
    version = a_version(0.1)
    files = version.files(GOLDEN, model="m")
    artifacts = await approved(blobs, files)
    expected = version.probability({"x": 0.5})
    with a_cluster_with_a_store(stack, blobs.bucket) as cluster:
        async with connected(cluster) as backend:
            await backend.ensure(GROUP)
            [member] = await ready(backend, 1, "m")
            await reconciled(member, artifacts)
            assert await predicted(member, files.sha256, 0.5) == pytest.approx(expected)

            # Its process is killed: the same member is back, with the versions that it held.
            cluster.do(cluster.kubelet.kill, member.name)
            container = cluster.kubelet.containers[member.name]
            await until(lambda: container.restarts == 1)
            assert await ready(backend, 1, "m") == (member,)
            assert await predicted(member, files.sha256, 0.5) == pytest.approx(expected)

            # The pod is lost: another member is there, which is given them anew.
            await backend.ensure(GROUP)
            cluster.do(cluster.lose, member.name)
            [new] = await ready(backend, 1, "m")
            assert new.name != member.name
            await reconciled(new, artifacts)
            assert await predicted(new, files.sha256, 0.5) == pytest.approx(expected)
            with pytest.raises(ConnectionError) as away:
                await reconciled(member, artifacts)
            assert is_infrastructure(away.value)
