"""The manifests: valid, fresh, hardened, of one mind with docker-compose.yml and the code."""

import kubernetes_validate
import pytest
import yaml

from gyral.local.interpolation import interpolate
from gyral.testkit import manifests
from gyral.testkit.openapi import settings_of

from .manifests import (
    ALL,
    COMPOSE,
    FOLDER,
    KUSTOMIZATION,
    MADE,
    OBJECTS,
    PODS,
    ROOT,
    container,
    environment,
    name_of,
    namespace_of,
    of_kind,
    pod_of,
    references,
)


@pytest.mark.parametrize("version", ["1.33", "1.35", "1.37"])
@pytest.mark.parametrize("manifest", ALL, ids=name_of)
def test_every_object_is_what_kubernetes_knows_and_has_no_other_field(manifest, version):
    assert kubernetes_validate.validate(manifest, version, strict=True) == version


def test_an_unknown_field_would_be_noticed():
    wrong = {**ALL[0], "spce": {}}
    with pytest.raises(kubernetes_validate.utils.ValidationError, match="spce"):
        kubernetes_validate.validate(wrong, "1.37", strict=True)


def test_what_follows_from_compose_is_fresh():
    assert (FOLDER / "services.yaml").read_text() == manifests.text(), "run `make contracts`"


def test_every_file_is_part_of_the_base_or_for_the_adapter():
    files = {path.name for path in FOLDER.glob("*.yaml")}
    assert files == {
        *KUSTOMIZATION["resources"],
        "kustomization.yaml",
        "prometheus-adapter.yaml",
    }


def test_all_seven_services_and_the_job_are_there_and_each_object_has_one_place():
    assert {name for name in PODS if name != "runtime-m"} == {
        *manifests.SERVICES,
        manifests.JOB,
    }
    places = [(name_of(each), each["metadata"].get("namespace")) for each in OBJECTS]
    assert len(set(places)) == len(places)
    known = {each["metadata"]["name"] for each in of_kind("Namespace")}
    assert {namespace for _, namespace in places} <= {None, *known}


@pytest.mark.parametrize("name", sorted(PODS))
def test_a_pod_may_do_nothing_it_need_not(name):
    pod = pod_of(name)["spec"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["enableServiceLinks"] is False
    assert pod["automountServiceAccountToken"] is (name == "deployer")
    assert container(name)["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert {"requests", "limits"} == container(name)["resources"].keys()
    writable = {"emptyDir", "secret", "name"}
    assert all(volume.keys() <= writable for volume in pod["volumes"])


@pytest.mark.parametrize("name", sorted(PODS))
def test_a_pod_runs_as_the_user_that_the_image_has(name):
    dockerfile = (ROOT / "infra" / "docker" / "Dockerfile").read_text()
    context = pod_of(name)["spec"]["securityContext"]
    assert f"USER {context['runAsUser']}:{context['runAsGroup']}\n" in dockerfile


@pytest.mark.parametrize("name", sorted(set(PODS) - {manifests.JOB}))
def test_a_pod_is_probed_where_it_listens(name):
    ports = {each["name"]: each["containerPort"] for each in container(name)["ports"]}
    for probe, path in (
        ("startupProbe", "/health/ready"),
        ("readinessProbe", "/health/ready"),
        ("livenessProbe", "/health/live"),
    ):
        asked = container(name)[probe]["httpGet"]
        assert asked["path"] == path
        assert str(ports[asked["port"]]) == environment(name)["HTTP_PORT"]["value"]


def settings_names(service):
    fields = settings_of(service).model_fields
    required = {name.upper() for name, field in fields.items() if field.is_required()}
    return {name.upper() for name in fields}, required


@pytest.mark.parametrize("name", sorted(set(PODS) - {manifests.JOB}))
def test_a_pod_is_told_what_its_service_knows_and_all_that_it_must_know(name):
    known, required = settings_names("runtime" if name == "runtime-m" else name)
    told = {each.removesuffix("_FILE") for each in environment(name)} - {"OMP_NUM_THREADS"}
    assert told <= known
    assert required <= told


@pytest.mark.parametrize("name", sorted(PODS))
def test_a_pod_is_told_the_same_as_its_container_is_by_compose(name):
    entry = COMPOSE["services"]["runtime" if name == "runtime-m" else name]
    here, there = environment(name), entry["environment"]
    apart = {
        "deployer": {
            *("RUNTIME_URL", "RUNTIME_SOCKET", "DEPLOYER_BACKEND", "DEPLOYER_SOCKETS"),
            *("KUBERNETES_IMAGE", "KUBERNETES_TORCH_IMAGE", "KUBERNETES_NAMESPACE"),
        },
        "gateway": {"SERVICE_KEY_FILE"},
        "runtime-m": {
            *("RUNTIME_LISTEN", "RUNTIME_FLAVOUR", "KAFKA_BROKERS"),
            *("RUNTIME_MEMORY_BYTES", "RUNTIME_TRIAL_MEMORY_BYTES"),
        },
    }.get(name, set()) | {"INSTANCE_ID"}
    assert here.keys() - apart == there.keys() - apart
    for each in here.keys() - apart:
        if "value" in here[each]:
            assert here[each]["value"] == interpolate(str(there[each]), {})
    assert container(name)["command"] == entry["command"]
    assert container(name)["image"] == entry["image"]


@pytest.mark.parametrize("namespace", ["gyral", "gyral-runtimes"])
def test_what_pods_refer_to_is_in_the_config_map_and_nothing_else_is(namespace):
    [config] = of_kind("ConfigMap", namespace)
    wanted = {
        key
        for name in PODS
        if namespace_of(name) == namespace
        for kind, source, key in references(name)
        if (kind, source) == ("configMap", config["metadata"]["name"])
    }
    assert config["data"].keys() == wanted


def test_no_secret_is_in_the_manifests_and_each_one_is_referred_to():
    assert of_kind("Secret") == []
    secret = {*COMPOSE["x-instance"]["secrets"], "DATABASE", "POSTGRES_ADMIN_URL"}
    for name in PODS:
        for setting, each in environment(name).items():
            if setting in secret:
                assert "secretKeyRef" in each["valueFrom"], (name, setting)


def matches(selector, labels):
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(each["key"]) in each["values"] and each["operator"] == "In"
        for each in selector.get("matchExpressions", ())
    )


def may_reach(sender, receiver, port):
    """Whether the policies let one pod ask another at a port."""
    theirs, ours = namespace_of(receiver), namespace_of(sender)
    labels = {name: pod_of(name)["metadata"]["labels"] for name in (sender, receiver)}
    namespaces = {
        each["metadata"]["name"]: {"kubernetes.io/metadata.name": each["metadata"]["name"]}
        for each in of_kind("Namespace")
    }

    def peer_is(peer, name, home):
        where = namespaces[namespace_of(name)]
        namespace = peer.get("namespaceSelector")
        inside = matches(namespace, where) if namespace else namespace_of(name) == home
        return inside and matches(peer.get("podSelector", {}), labels[name])

    def lets(direction, key, at, other, home):
        return any(
            direction in policy["spec"]["policyTypes"]
            and matches(policy["spec"]["podSelector"], labels[at])
            and (key not in rule or any(peer_is(each, other, home) for each in rule[key]))
            and port in [each["port"] for each in rule["ports"]]
            for policy in of_kind("NetworkPolicy", home)
            for rule in policy["spec"].get(direction.lower(), ())
        )

    return lets("Ingress", "from", receiver, sender, theirs) and lets(
        "Egress", "to", sender, receiver, ours
    )


@pytest.mark.parametrize("sender", sorted(set(PODS) - {"runtime-m"}))
def test_only_gateways_and_the_deployer_reach_runtimes_each_at_its_port(sender):
    ports = {port for port in (8108, 8109) if may_reach(sender, "runtime-m", port)}
    assert ports == {"gateway": {8109}, "deployer": {8108}}.get(sender, set())


def test_nothing_goes_in_or_out_that_no_policy_names():
    for namespace in ("gyral", "gyral-runtimes"):
        [deny] = [
            each
            for each in of_kind("NetworkPolicy", namespace)
            if each["metadata"]["name"] == "default-deny"
        ]
        assert deny["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}


OPERATOR = {
    "metadata": {"name": "operator", "namespace": "gyral"},
    "spec": {"template": {"metadata": {"labels": {"gyral.dev/operator": "true"}}}},
}
"""A pod that somebody runs `gyral` in."""


def test_an_operators_pod_reaches_every_service_at_its_door_and_no_runtime(monkeypatch):
    monkeypatch.setitem(PODS, "operator", OPERATOR)
    assert all(may_reach("operator", name, "http") for name in manifests.SERVICES)
    assert not any(may_reach("operator", "runtime-m", port) for port in (8108, 8109, "http"))
    assert not any(may_reach("registry", name, "http") for name in manifests.SERVICES[2:5])


def test_every_policy_and_budget_is_about_pods_that_are_there(monkeypatch):
    monkeypatch.setitem(PODS, "operator", OPERATOR)
    for each in [*of_kind("NetworkPolicy"), *of_kind("PodDisruptionBudget")]:
        selector = each["spec"].get("podSelector", each["spec"].get("selector"))
        here = [
            pod_of(name)["metadata"]["labels"]
            for name in PODS
            if namespace_of(name) == each["metadata"]["namespace"]
        ]
        assert any(matches(selector, labels) for labels in here), name_of(each)


def test_a_drained_node_leaves_a_gateway():
    [budget] = of_kind("PodDisruptionBudget", "gyral")
    assert PODS["gateway"]["spec"]["replicas"] > budget["spec"]["minAvailable"] >= 1


def test_a_drained_node_and_a_new_image_take_one_runtime_at_a_time():
    [budget] = of_kind("PodDisruptionBudget", "gyral-runtimes")
    assert budget["spec"]["maxUnavailable"] == 1
    assert matches(budget["spec"]["selector"], pod_of("runtime-m")["metadata"]["labels"])
    spec = MADE[0]["spec"]
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    default = settings_of("deployer").model_fields["kubernetes_settled_s"].default
    assert spec["progressDeadlineSeconds"] > spec["minReadySeconds"] == default > 0


def test_only_the_deployer_may_anything_and_that_beside_its_own_services():
    [binding] = of_kind("RoleBinding")
    [account] = binding["subjects"]
    assert (account["kind"], account["namespace"]) == ("ServiceAccount", "gyral")
    assert pod_of("deployer")["spec"]["serviceAccountName"] == account["name"]
    assert binding["metadata"]["namespace"] == "gyral-runtimes"
    assert of_kind("ClusterRole") == of_kind("ClusterRoleBinding") == []
    [role] = of_kind("Role")
    assert "*" not in str(role["rules"])
    assert not {"secrets", "configmaps", "pods/exec"} & {
        resource for rule in role["rules"] for resource in rule["resources"]
    }


def test_the_deployer_makes_runtimes_where_its_role_and_the_policies_are():
    told = environment("deployer")
    assert told["KUBERNETES_NAMESPACE"]["value"] == "gyral-runtimes"
    assert told["DEPLOYER_BACKEND"]["value"] == "kubernetes"
    fields = settings_of("deployer").model_fields
    assert fields["kubernetes_namespace"].default == "gyral-runtimes"


def test_who_runs_in_several_pods_has_a_name_in_each():
    for name in manifests.SERVICES:
        source = environment(name)["INSTANCE_ID"]["valueFrom"]
        assert source == {"fieldRef": {"fieldPath": "metadata.name"}}


def test_the_autoscalers_metric_is_what_the_adapter_makes():
    adapter = yaml.safe_load((FOLDER / "prometheus-adapter.yaml").read_text())
    [rule] = adapter["rules"]["external"]
    scaler = MADE[2]["spec"]
    [metric] = scaler["metrics"]
    assert rule["name"]["as"] == metric["external"]["metric"]["name"]
    assert rule["seriesQuery"] in rule["metricsQuery"]
