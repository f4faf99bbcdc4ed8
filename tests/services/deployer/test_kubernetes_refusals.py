"""What the deployer's backend makes of a cluster that is away, or says no."""

import subprocess
import sys
from dataclasses import replace

import pytest

from gyral.deployer.engine.backend import Flavour
from gyral.deployer.engine.kubernetes import Kubernetes, RefusedByClusterError
from gyral.deployer.engine.workloads import DIGEST
from gyral.kit.db import is_infrastructure
from gyral.kit.health import UnstartableError
from gyral.testkit import openapi
from gyral.testkit.processes import free_port
from gyral.testkit.waiting import until

from .cluster import a_cluster
from .cluster.objects import AUTOSCALER, DEPLOYMENT, SERVICE, StatusError
from .pods import (
    FLIGHTS,
    NAMESPACE,
    PODS,
    RULES,
    connected,
    volumes,
    where,
)


@pytest.mark.parametrize(
    ("status", "reason", "advice"),
    [
        (401, "Unauthorized", "Look at the token in KUBERNETES_CREDENTIALS"),
        (403, "Forbidden", "Look at the deployer's Role"),
        (422, "Invalid", "expected 200 to `read runtime-flights`; found 422"),
        (429, "TooManyRequests", "found 429"),
        (500, "InternalError", "found 500"),
        (503, "ServiceUnavailable", "found 503"),
    ],
)
async def test_a_refusal_says_what_and_periodic_jobs_survive_it(
    cluster, backend, status, reason, advice
):
    cluster.api.fail = StatusError(status, reason, "no")
    with pytest.raises(RefusedByClusterError, match=advice) as refused:
        await backend.ensure(FLIGHTS)
    assert is_infrastructure(refused.value)
    for call in (backend.groups(), backend.remove("flights")):
        with pytest.raises(RefusedByClusterError):
            await call
    cluster.api.fail = None
    await backend.ensure(FLIGHTS)


async def test_a_namespace_that_is_not_there_is_told_as_such(cluster, backend):
    cluster.objects.namespaces.clear()
    with pytest.raises(
        RefusedByClusterError, match=r'namespaces \\"gyral-runtimes\\" not found'
    ):
        await backend.ensure(FLIGHTS)
    cluster.api.fail = StatusError(404, "NotFound", "no")
    with pytest.raises(RefusedByClusterError, match="KUBERNETES_NAMESPACE names") as refused:
        await backend.groups()
    assert is_infrastructure(refused.value)


async def test_a_group_that_others_are_at_is_removed_later(cluster, backend):
    cluster.api.fail = StatusError(409, "Conflict", "being deleted")
    with pytest.raises(RefusedByClusterError, match="found 409") as refused:
        await backend.remove("flights")
    assert is_infrastructure(refused.value)


async def test_an_api_server_that_is_away_is_infrastructure(cluster):
    async with connected(cluster, port=free_port()) as backend:
        for call in (backend.ensure(FLIGHTS), backend.groups(), backend.remove("flights")):
            with pytest.raises(ConnectionError, match="expected an answer to"):
                await call
        assert backend.healthy() is None


async def test_an_api_server_that_says_nothing_is_given_up_in_time(cluster):
    cluster.do(cluster.api.silent.set)
    async with connected(cluster, timeout_s=0.2) as backend:
        with pytest.raises(ConnectionError, match=r"within 0\.2 s; found TimeoutError"):
            await backend.groups()


async def test_another_token_and_another_authority_are_not_taken(cluster, tmp_path):
    (cluster.credentials / "token").write_text("stolen")
    async with connected(cluster) as backend:
        with pytest.raises(RefusedByClusterError, match="found 401"):
            await backend.groups()
    with a_cluster(tmp_path, namespace=NAMESPACE, rules=RULES, volumes=volumes()) as stranger:
        mine = where(cluster, port=stranger.port)
        backend = Kubernetes(mine, PODS)
        await backend.start()
        with pytest.raises(ConnectionError, match="Certificate"):
            await backend.groups()
        await backend.stop()


async def test_a_role_without_a_right_is_noticed(cluster):
    """Each right of the Role is needed: without any one of them something is refused."""
    for rule in RULES:
        for verb in rule["verbs"]:
            rest = [
                {**each, "verbs": [one for one in each["verbs"] if one != verb]}
                if each is rule
                else each
                for each in RULES
            ]
            cluster.api.access.rules = RULES
            async with connected(cluster) as backend:
                await backend.remove("flights")
                await until(lambda: not cluster.objects.kept)
                cluster.api.access.rules = rest
                with pytest.raises(RefusedByClusterError, match="found 403"):
                    await everything(backend, cluster)


async def everything(backend, cluster):
    await backend.ensure(FLIGHTS)
    await backend.groups()
    old = {"metadata": {"annotations": {DIGEST: "of an older deployer"}}}
    for kind in (DEPLOYMENT, SERVICE, AUTOSCALER):
        cluster.do(cluster.objects.merge, kind, NAMESPACE, "runtime-flights", old)
    await backend.ensure(FLIGHTS)
    await backend.remove("flights")


async def test_no_right_beyond_the_runtimes_namespace(cluster):
    async with connected(cluster, replace(PODS, namespace="gyral")) as backend:
        with pytest.raises(RefusedByClusterError, match="found 403"):
            await backend.ensure(FLIGHTS)


async def test_a_pod_without_a_service_account_is_told_at_start(cluster, tmp_path):
    backend = Kubernetes(where(cluster, credentials=tmp_path), PODS)
    with pytest.raises(UnstartableError, match="KUBERNETES_CREDENTIALS: expected token and"):
        await backend.start()


def test_a_deployer_without_a_cluster_does_not_load_its_client():
    asked = "import sys, gyral.deployer.app as _; print('kubernetes_asyncio' in sys.modules)"
    said = subprocess.run(
        [sys.executable, "-c", asked], capture_output=True, text=True, check=True
    )
    assert said.stdout == "False\n"


async def test_the_settings_say_where_the_cluster_is_and_what_pods_are_made_of(
    cluster, tmp_path, monkeypatch
):
    for name, value in (("MAX_MODELS", "7"), ("MEMORY_BYTES", "4194304"), ("LISTEN", "no")):
        monkeypatch.setenv(f"RUNTIME_{name}", value)
    told = {
        "deployer_backend": "kubernetes",
        "kubernetes_image": "gyral:0.1.0",
        "kubernetes_memory": "3Gi",
        "kubernetes_service_host": "127.0.0.1",
        "kubernetes_service_port": cluster.port,
        "kubernetes_credentials": cluster.credentials,
    }
    service = await openapi.assembled("deployer", tmp_path, told)
    [backend] = [part for part in service.parts if isinstance(part, Kubernetes)]
    await backend.start()
    await backend.ensure(replace(FLIGHTS, replicas=0, flavour=Flavour.TORCH))
    assert await backend.groups() == {"flights": ()}
    await backend.stop()
    made = cluster.do(cluster.objects.get, DEPLOYMENT, NAMESPACE, "runtime-flights")
    [container] = made["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "gyral:0.1.0"  # where none is given that has torch
    assert container["resources"]["limits"] == {"memory": "3Gi"}
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert told["RUNTIME_LISTEN"] == "tcp:0.0.0.0:8109"
    assert told["RUNTIME_MAX_MODELS"] == "7"
    assert told["RUNTIME_MEMORY_BYTES"] == "4194304"
    assert told["RUNTIME_TRIAL_MEMORY_BYTES"] == str(3 << 30)


async def test_bounds_that_nobody_set_lie_within_the_pods_memory(cluster, backend):
    await backend.ensure(replace(FLIGHTS, replicas=0))
    made = cluster.do(cluster.objects.get, DEPLOYMENT, NAMESPACE, "runtime-flights")
    [container] = made["spec"]["template"]["spec"]["containers"]
    told = {each["name"]: each.get("value") for each in container["env"]}
    assert container["resources"]["limits"] == {"memory": "2Gi"}
    assert told["RUNTIME_MEMORY_BYTES"] == str(512 << 20)
    assert told["RUNTIME_TRIAL_MEMORY_BYTES"] == str(2 << 30)
