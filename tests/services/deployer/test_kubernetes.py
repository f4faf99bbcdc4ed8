"""Groups in a cluster: the deployer's backend against an API server, with pods that answer."""

import asyncio
import random
import secrets
import subprocess
import sys
import tempfile
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import yaml

from gyral.contracts.deployment import Datatype, Input, Share
from gyral.deployer.engine.backend import Flavour, GroupSpec
from gyral.deployer.engine.kubernetes import Cluster, Kubernetes, RefusedByClusterError
from gyral.deployer.engine.workloads import DIGEST, Pods, workload
from gyral.gateway.engine.link import Link
from gyral.gateway.engine.probing import missing
from gyral.kit.db import is_infrastructure
from gyral.kit.health import UnstartableError
from gyral.testkit.processes import free_port
from gyral.testkit.waiting import until

from .cluster import a_cluster
from .cluster.kubelet import Volumes
from .cluster.objects import AUTOSCALER, DEPLOYMENT, POD, SERVICE, StatusError

ROOT = Path(__file__).parents[3]
ACCESS = list(yaml.safe_load_all((ROOT / "infra/kubernetes/access.yaml").read_text()))
[RULES] = [each["rules"] for each in ACCESS if each["kind"] == "Role"]
NAMESPACE = "gyral-runtimes"
KEY = secrets.token_hex(16)
PODS = Pods(NAMESPACE, "gyral:0.1.0", "gyral:0.1.0-torch", cpu="500m", memory="2Gi")
FLIGHTS = GroupSpec("flights", 1, least=0, most=3, queue_s=0.05)
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
        images={"gyral:0.1.0", "gyral:0.1.0-torch"},
    )


def where(cluster, **other):
    found = Cluster("127.0.0.1", cluster.port, cluster.credentials, timeout_s=10)
    return replace(found, **other)


@asynccontextmanager
async def connected(cluster, pods=PODS, **other):
    backend = Kubernetes(where(cluster, **other), pods)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


@pytest.fixture
def cluster():
    with (
        tempfile.TemporaryDirectory(prefix="k8s-") as folder,
        a_cluster(Path(folder), namespace=NAMESPACE, rules=RULES, volumes=volumes()) as found,
    ):
        yield found


@pytest.fixture
async def backend(cluster):
    async with connected(cluster) as found:
        yield found


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


async def test_a_group_comes_up_answers_and_is_found_again_by_another_deployer(
    cluster, backend
):
    await backend.ensure(FLIGHTS)
    [member] = await ready(backend, 1)
    await answered(member)
    async with connected(cluster) as another:
        assert await another.groups() == {"flights": (member,)}
        assert another.entry("flights") == "tcp:runtime-flights.gyral-runtimes.svc:8109"


async def test_a_group_that_is_as_wanted_is_not_written_again(cluster, backend):
    await backend.ensure(FLIGHTS)
    written = [verb for verb, plural, _ in cluster.objects.writes if plural != "pods"]
    assert written == ["create", "update", "create", "create"]
    await backend.ensure(FLIGHTS)
    await backend.ensure(FLIGHTS)
    assert [verb for verb, plural, _ in cluster.objects.writes if plural != "pods"] == written


async def test_a_group_of_none_has_a_service_and_an_autoscaler_and_no_pod(cluster, backend):
    await backend.ensure(replace(FLIGHTS, replicas=0))
    assert await backend.groups() == {"flights": ()}
    assert replicas(cluster) == 0
    kinds = {kind.name for kind, _, _ in cluster.objects.kept}
    assert kinds == {"Deployment", "Service", "HorizontalPodAutoscaler"}
    assert not any(plural == "pods" for _, plural, _ in cluster.objects.writes)


async def test_between_one_and_most_the_autoscalers_word_stands(cluster, backend):
    await backend.ensure(FLIGHTS)
    await ready(backend, 1)
    cluster.do(cluster.kubelet.autoscale, NAMESPACE, "runtime-flights", 7)
    before = await ready(backend, 3)
    for wanted in (1, 2):
        await backend.ensure(replace(FLIGHTS, replicas=wanted))
        assert replicas(cluster) == 3
    # Also where the deployer has the pods made anew for another reason.
    async with connected(cluster, replace(PODS, memory="3Gi")) as updated:
        await updated.ensure(FLIGHTS)
        assert replicas(cluster) == 3
        after = await ready(updated, 3)
    assert {each.name for each in before}.isdisjoint(each.name for each in after)


async def test_to_none_and_back_is_the_deployers_word(cluster, backend):
    await backend.ensure(FLIGHTS)
    await ready(backend, 1)
    cluster.do(cluster.kubelet.autoscale, NAMESPACE, "runtime-flights", 2)
    await backend.ensure(replace(FLIGHTS, replicas=0))
    assert replicas(cluster) == 0
    cluster.do(cluster.kubelet.autoscale, NAMESPACE, "runtime-flights", 2)
    assert replicas(cluster) == 0
    await ready(backend, 0)
    await backend.ensure(replace(FLIGHTS, replicas=5))
    assert replicas(cluster) == 1
    await ready(backend, 1)


async def test_of_a_group_that_shrinks_the_last_to_come_ends_first(cluster, backend):
    await backend.ensure(FLIGHTS)
    [first] = await ready(backend, 1)
    cluster.do(cluster.kubelet.autoscale, NAMESPACE, "runtime-flights", 3)
    three = await ready(backend, 3)
    assert three[0] == first
    cluster.do(cluster.kubelet.autoscale, NAMESPACE, "runtime-flights", 1)
    assert await ready(backend, 1) == (first,)


async def test_a_pod_that_is_to_end_still_answers_and_is_not_ready(cluster, backend):
    await backend.ensure(FLIGHTS)
    [member] = await ready(backend, 1)
    cluster.do(cluster.kubelet.drained.clear)
    await backend.ensure(replace(FLIGHTS, replicas=0))

    async def leaving():
        return [each.ready for each in (await backend.groups())["flights"]] == [False]

    await until(leaving)
    assert (await backend.groups())["flights"] == (replace(member, ready=False),)
    await answered(member)
    cluster.do(cluster.kubelet.drained.set)
    cluster.do(cluster.kubelet.wake)
    await ready(backend, 0)


async def test_a_killed_process_comes_back_as_the_same_member(cluster, backend):
    await backend.ensure(FLIGHTS)
    [member] = await ready(backend, 1)
    cluster.do(cluster.kubelet.kill, member.name)
    container = cluster.kubelet.containers[member.name]
    await until(lambda: container.restarts == 1)
    assert await ready(backend, 1) == (member,)
    await answered(member)


async def test_a_pod_that_is_gone_is_followed_by_another(cluster, backend):
    await backend.ensure(FLIGHTS)
    [member] = await ready(backend, 1)
    cluster.do(cluster.objects.delete, POD, NAMESPACE, member.name)

    async def another():
        members = (await backend.groups())["flights"]
        return [each.ready for each in members] == [True] and members[0].name != member.name

    await until(another, timeout_s=60)
    [new] = await ready(backend, 1)
    assert new.data != member.data
    await answered(new)


async def test_what_is_removed_goes_with_all_that_belongs_to_it(cluster, backend):
    await backend.ensure(FLIGHTS)
    await backend.ensure(replace(FLIGHTS, name="fraud", replicas=0))
    await ready(backend, 1)
    await backend.remove("flights")
    await backend.remove("flights")
    await until(lambda: {name for _, _, name in cluster.objects.kept} == {"runtime-fraud"})
    assert await backend.groups() == {"fraud": ()}


async def test_a_changed_limit_reaches_the_autoscaler(cluster, backend):
    await backend.ensure(FLIGHTS)
    found = cluster.do(cluster.objects.get, AUTOSCALER, NAMESPACE, "runtime-flights")["spec"]
    assert (found["minReplicas"], found["maxReplicas"]) == (1, 3)
    [metric] = [each["external"] for each in found["metrics"]]
    assert metric["metric"]["selector"] == {"matchLabels": {"model": "flights"}}
    assert metric["target"] == {"type": "Value", "value": "50m"}
    await backend.ensure(replace(FLIGHTS, least=2, most=9, queue_s=0.2))
    found = cluster.do(cluster.objects.get, AUTOSCALER, NAMESPACE, "runtime-flights")["spec"]
    assert (found["minReplicas"], found["maxReplicas"]) == (2, 9)
    assert found["metrics"][0]["external"]["target"]["value"] == "200m"


async def test_what_others_deleted_is_made_again(cluster, backend):
    await backend.ensure(replace(FLIGHTS, replicas=0))
    for kind in (SERVICE, AUTOSCALER):
        cluster.do(cluster.objects.delete, kind, NAMESPACE, "runtime-flights")
    await backend.ensure(replace(FLIGHTS, replicas=0))
    for kind in (SERVICE, AUTOSCALER):
        owners = cluster.do(cluster.objects.get, kind, NAMESPACE, "runtime-flights")["metadata"]
        owner = cluster.do(cluster.objects.get, DEPLOYMENT, NAMESPACE, "runtime-flights")
        assert owners["ownerReferences"][0]["uid"] == owner["metadata"]["uid"]


async def test_labels_and_annotations_of_others_stay(cluster, backend):
    await backend.ensure(replace(FLIGHTS, replicas=0))
    patch = {"metadata": {"labels": {"team": "red"}, "annotations": {DIGEST: "old"}}}
    cluster.do(cluster.objects.merge, DEPLOYMENT, NAMESPACE, "runtime-flights", patch)
    await backend.ensure(replace(FLIGHTS, replicas=0))
    found = cluster.do(cluster.objects.get, DEPLOYMENT, NAMESPACE, "runtime-flights")
    assert found["metadata"]["labels"]["team"] == "red"
    assert found["metadata"]["annotations"][DIGEST] != "old"


async def test_two_deployers_that_make_the_same_group_make_one(cluster, backend):
    async with connected(cluster) as another:
        await asyncio.gather(*(each.ensure(FLIGHTS) for each in (backend, another) * 3))
    assert [name for kind, _, name in cluster.objects.kept if kind is DEPLOYMENT] == [
        "runtime-flights"
    ]
    assert replicas(cluster) == 1


async def test_a_conflict_is_settled_by_what_the_other_wrote(cluster, backend):
    """The autoscaler adds one between the deployer's reading and its scaling to none."""
    await backend.ensure(FLIGHTS)

    def scaled():
        cluster.objects.scale(NAMESPACE, "runtime-flights", {"spec": {"replicas": 2}})

    cluster.api.before_write.append(scaled)
    await backend.ensure(replace(FLIGHTS, replicas=0))
    assert replicas(cluster) == 0
    assert "PATCH" in " ".join(cluster.api.requests)


async def test_others_that_never_stop_changing_it_are_told_of(cluster, backend):
    await backend.ensure(FLIGHTS)
    numbers = iter(range(2, 99))

    def scaled():
        body = {"spec": {"replicas": next(numbers)}}
        cluster.objects.scale(NAMESPACE, "runtime-flights", body)

    cluster.api.before_write += [scaled] * 9
    with pytest.raises(RefusedByClusterError, match="found others changing them 5 times"):
        await backend.ensure(replace(FLIGHTS, replicas=0))


@pytest.mark.parametrize(
    "group",
    ["a", "9", "a-", "a--", "x" * 55, "x" * 56, "x" * 63, "x" * 62 + "-", "a-" * 31, "shared"],
)
async def test_every_name_of_a_model_makes_a_group(cluster, backend, group):
    await backend.ensure(GroupSpec(group, 0))
    assert await backend.groups() == {group: ()}
    await backend.remove(group)
    assert await backend.groups() == {}


def test_names_that_are_cut_stay_apart():
    assert len({workload("x" * 62 + end) for end in "abc"}) == 3
    assert workload("a-") != workload("a--")


async def test_a_torch_group_runs_the_image_that_has_torch(cluster, backend):
    await backend.ensure(replace(FLIGHTS, replicas=0, flavour=Flavour.TORCH))
    found = cluster.do(cluster.objects.get, DEPLOYMENT, NAMESPACE, "runtime-flights")
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "gyral:0.1.0-torch"


async def test_the_shared_group_scales_by_all_models(cluster, backend):
    await backend.ensure(GroupSpec("shared", 1, most=2))
    found = cluster.do(cluster.objects.get, AUTOSCALER, NAMESPACE, "runtime-shared")["spec"]
    assert "selector" not in found["metrics"][0]["external"]["metric"]


async def test_a_pod_that_cannot_start_is_no_member(cluster, backend):
    cluster.kubelet.volumes.secrets.clear()
    await backend.ensure(FLIGHTS)
    await until(
        lambda: any(
            each["status"].get("containerStatuses")
            for (kind, _, _), each in list(cluster.objects.kept.items())
            if kind is POD
        )
    )
    assert await backend.groups() == {"flights": ()}


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
    cluster.kubelet.volumes.images.clear()  # so that nothing is started
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
