"""Groups in a cluster: the deployer's backend against an API server, with pods that answer."""

import asyncio
import re
from dataclasses import replace

import pytest

from gyral.deployer.engine.backend import Flavour, GroupSpec
from gyral.deployer.engine.kubernetes import RefusedByClusterError
from gyral.deployer.engine.workloads import DIGEST, workload
from gyral.kit.telemetry import nameless
from gyral.testkit.waiting import until

from .cluster.objects import AUTOSCALER, DEPLOYMENT, POD, SERVICE
from .pods import (
    FLIGHTS,
    NAMESPACE,
    PODS,
    answered,
    connected,
    ready,
    replicas,
)


@pytest.mark.usefixtures("images")
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


@pytest.mark.usefixtures("images")
async def test_between_one_and_most_the_autoscalers_word_stands(cluster, backend):
    await backend.ensure(FLIGHTS)
    await ready(backend, 1)
    cluster.do(cluster.kubelet.autoscale, NAMESPACE, "runtime-flights", 7)
    before = await ready(backend, 3)
    for least in (1, 2):
        await backend.ensure(replace(FLIGHTS, replicas=least))
        assert replicas(cluster) == 3
    # Also where the deployer has the pods made anew for another reason.
    async with connected(cluster, replace(PODS, memory="3Gi")) as updated:
        await updated.ensure(FLIGHTS)
        assert replicas(cluster) == 3
        after = await ready(updated, 3)
    assert {each.name for each in before}.isdisjoint(each.name for each in after)


@pytest.mark.usefixtures("images")
async def test_an_older_pod_ends_once_its_successor_had_time_to_load_what_it_holds(
    cluster, backend
):
    await backend.ensure(FLIGHTS)
    [old] = await ready(backend, 1)
    async with connected(cluster, replace(PODS, memory="3Gi", settled_s=90)) as updated:
        await updated.ensure(FLIGHTS)
        first, new = await ready(updated, 2)
        assert first == old
        cluster.do(cluster.kubelet.at, 89.0)
        assert len((await updated.groups())["flights"]) == 2
        cluster.do(cluster.kubelet.at, 91.0)
        assert await ready(updated, 1) == (new,)


@pytest.mark.usefixtures("images")
async def test_to_none_and_back_is_the_deployers_word(cluster, backend):
    await backend.ensure(FLIGHTS)
    await ready(backend, 1)
    cluster.do(cluster.kubelet.autoscale, NAMESPACE, "runtime-flights", 2)
    await backend.ensure(replace(FLIGHTS, replicas=0))
    assert replicas(cluster) == 0
    cluster.do(cluster.kubelet.autoscale, NAMESPACE, "runtime-flights", 2)
    assert replicas(cluster) == 0
    await ready(backend, 0)
    await backend.ensure(replace(FLIGHTS, replicas=2))
    assert replicas(cluster) == 2
    await ready(backend, 2)


@pytest.mark.usefixtures("images")
async def test_a_pod_that_is_to_end_still_answers_and_is_no_member(cluster, backend):
    await backend.ensure(FLIGHTS)
    [member] = await ready(backend, 1)
    cluster.do(cluster.kubelet.drained.clear)
    await backend.ensure(replace(FLIGHTS, replicas=0))
    await ready(backend, 0)
    await answered(member)
    cluster.do(cluster.kubelet.drained.set)
    cluster.do(cluster.kubelet.wake)
    await until(lambda: all(kind is not POD for kind, _, _ in list(cluster.objects.kept)))


@pytest.mark.usefixtures("images")
async def test_a_killed_process_comes_back_as_the_same_member(cluster, backend):
    await backend.ensure(FLIGHTS)
    [member] = await ready(backend, 1)
    cluster.do(cluster.kubelet.kill, member.name)
    container = cluster.kubelet.containers[member.name]
    await until(lambda: container.restarts == 1)
    assert await ready(backend, 1) == (member,)
    await answered(member)


@pytest.mark.usefixtures("images")
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


@pytest.mark.usefixtures("images")
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
    assert metric["metric"]["selector"] == {
        "matchLabels": {"model_sha256": nameless("flights")}
    }
    assert metric["target"] == {"type": "Value", "value": "50m"}
    await backend.ensure(replace(FLIGHTS, replicas=2, most=9, queue_s=0.2))
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
    with pytest.raises(
        RefusedByClusterError, match=r"in 5 tries; found of the last: kuber.* found 409"
    ):
        await backend.ensure(replace(FLIGHTS, replicas=0))


LABEL = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9])?")


@pytest.mark.parametrize(
    "group",
    ["a", "9", "a-", "a--", "x" * 55, "x" * 56, "x" * 63, "x" * 62 + "-", "a-" * 31, "shared"],
)
async def test_every_name_of_a_model_makes_a_group(cluster, backend, group):
    await backend.ensure(GroupSpec(group, 0))
    assert await backend.groups() == {group: ()}
    scaler = cluster.do(cluster.objects.get, AUTOSCALER, NAMESPACE, workload(group))["spec"]
    metric = scaler["metrics"][0]["external"]["metric"]
    assert all(map(LABEL.fullmatch, metric.get("selector", {}).get("matchLabels", {}).values()))
    await backend.remove(group)
    assert await backend.groups() == {}


def test_names_that_are_cut_stay_apart():
    assert len({workload("x" * 62 + end) for end in "abc"}) == 3
    assert workload("a-") != workload("a--")


@pytest.mark.parametrize("group", ["x" * 60, "a-"])
def test_no_whole_name_is_one_that_was_cut(group):
    assert workload(workload(group).removeprefix("runtime-")) != workload(group)


@pytest.mark.usefixtures("images")
async def test_a_torch_group_runs_the_image_that_has_torch(cluster, backend):
    await backend.ensure(replace(FLIGHTS, flavour=Flavour.TORCH))
    found = cluster.do(cluster.objects.get, DEPLOYMENT, NAMESPACE, "runtime-flights")
    [container] = found["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "gyral:0.1.0-torch"
    [member] = await ready(backend, 1)
    assert member.flavour is Flavour.TORCH


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


async def test_what_is_as_wanted_costs_the_api_server_next_to_nothing(cluster):
    none = replace(FLIGHTS, replicas=0)
    async with connected(cluster, rest_s=600, fresh_s=600) as backend:
        await backend.ensure(none)
        assert await backend.groups() == {"flights": ()}
        before = len(cluster.api.requests)
        for _ in range(50):
            await backend.ensure(none)
            await backend.groups()
        assert len(cluster.api.requests) == before
        await backend.ensure(FLIGHTS)
        assert replicas(cluster) == 1


@pytest.mark.parametrize("disturb", ["scale", "delete"])
async def test_what_a_listing_shows_otherwise_is_looked_at_again(cluster, disturb):
    async with connected(cluster, rest_s=600) as backend:
        await backend.ensure(FLIGHTS)
        if disturb == "scale":
            none = {"spec": {"replicas": 0}}
            cluster.do(cluster.objects.scale, NAMESPACE, "runtime-flights", none)
        else:
            cluster.do(cluster.objects.delete, DEPLOYMENT, NAMESPACE, "runtime-flights")
        await backend.groups()
        await backend.ensure(FLIGHTS)
        assert replicas(cluster) == 1
