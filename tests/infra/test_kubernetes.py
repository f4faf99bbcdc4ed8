"""The manifests: valid, fresh, hardened, of one mind with docker-compose.yml and the code."""

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from gyral.deployer.engine import workloads
from gyral.deployer.engine.backend import GroupSpec
from gyral.deployer.engine.workloads import Pods
from gyral.local.interpolation import interpolate
from gyral.testkit import manifests
from gyral.testkit.openapi import settings_of

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "infra" / "kubernetes"
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
COMMANDS = "\n".join(
    re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
).splitlines()
KUSTOMIZATION = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
OBJECTS = [
    each
    for name in KUSTOMIZATION["resources"]
    for each in yaml.safe_load_all((FOLDER / name).read_text())
]
RUNTIME_PODS = Pods("gyral-runtimes", "gyral:0.1.0", "gyral:0.1.0", cpu="1", memory="2Gi")
OWNER = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "runtime-m", "uid": "u"}
GROUP = GroupSpec("m", 1, most=3)
MADE: list[Any] = [
    workloads.deployment(GROUP, RUNTIME_PODS),
    workloads.service(GROUP, RUNTIME_PODS, OWNER),
    workloads.autoscaler(GROUP, RUNTIME_PODS, OWNER),
]
ALL: list[Any] = [*OBJECTS, *MADE]
PODS: dict[str, Any] = {
    each["metadata"]["name"]: each
    for each in ALL
    if each["kind"] in ("StatefulSet", "Job", "Deployment")
}


def name_of(manifest):
    return f"{manifest['kind']}/{manifest['metadata']['name']}"


def pod_of(name):
    return PODS[name]["spec"]["template"]


def container(name):
    [found] = pod_of(name)["spec"]["containers"]
    return found


def environment(name):
    return {each["name"]: each for each in container(name)["env"]}


def of_kind(kind, namespace=None):
    found = [each for each in OBJECTS if each["kind"] == kind]
    return [each for each in found if namespace in (None, each["metadata"].get("namespace"))]


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


def kubectl(*words, folder=ROOT):
    """Return the objects that kubectl makes of these words; None where there is none."""
    program = shutil.which("kubectl")
    if program is None:
        return None
    said = subprocess.run(
        [program, *words], cwd=folder, capture_output=True, text=True, check=True
    )
    return list(yaml.safe_load_all(said.stdout))


def as_set(objects):
    return sorted(json.dumps(each, sort_keys=True) for each in objects)


def test_kubectl_where_it_is_there_builds_these_objects():
    built = kubectl("kustomize", "infra/kubernetes")
    assert as_set(built or OBJECTS) == as_set(OBJECTS)


def test_the_pages_overlay_says_where_things_are(tmp_path):
    [overlay] = re.findall(r"^```yaml\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    shutil.copytree(FOLDER, tmp_path / "gyral" / "infra" / "kubernetes")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kustomization.yaml").write_text(overlay)
    told = yaml.safe_load(overlay)
    assert (tmp_path / "mine" / told["resources"][0]).resolve().is_dir()
    patched = set(re.findall(r"path: /data/(\w+)", overlay))
    [config] = of_kind("ConfigMap", "gyral")
    assert patched <= config["data"].keys()
    for each in kubectl("kustomize", "mine", folder=tmp_path) or ():
        if each["kind"] == "ConfigMap":
            assert each["data"]["S3_BUCKET"] == "gyral-prod"
            image = each["data"].get("KUBERNETES_IMAGE", "registry.example/gyral:0.1.0")
            assert image == "registry.example/gyral:0.1.0"
        if each["kind"] == "StatefulSet":
            [made] = each["spec"]["template"]["spec"]["containers"]
            assert made["image"] == "registry.example/gyral:0.1.0"


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
            *("KUBERNETES_IMAGE", "KUBERNETES_NAMESPACE"),
        },
        "gateway": {"SERVICE_KEY_FILE"},
        "runtime-m": {"RUNTIME_LISTEN", "RUNTIME_FLAVOUR", "KAFKA_BROKERS"},
    }.get(name, set()) | {"INSTANCE_ID"}
    assert here.keys() - apart == there.keys() - apart
    for each in here.keys() - apart:
        if "value" in here[each]:
            assert here[each]["value"] == interpolate(str(there[each]), {})
    assert container(name)["command"] == entry["command"]
    assert container(name)["image"] == entry["image"]


def references(name):
    """Yield kind, source and key of everything that a pod's settings and files refer to."""
    for each in environment(name).values():
        for kind, source in each.get("valueFrom", {}).items():
            if kind != "fieldRef":
                yield kind.removesuffix("KeyRef"), source["name"], source["key"]
    for volume in pod_of(name)["spec"]["volumes"]:
        for item in volume.get("secret", {}).get("items", ()):
            yield "secret", volume["secret"]["secretName"], item["key"]


def namespace_of(name):
    return PODS[name]["metadata"]["namespace"]


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


def wanted_secrets():
    """Return namespace, secret and key of each that some pod refers to."""
    return {
        (namespace_of(name), source, key)
        for name in PODS
        for kind, source, key in references(name)
        if kind == "secret"
    }


def test_the_page_lists_exactly_the_secrets_that_are_referred_to():
    rows = re.findall(r"^\| `(gyral[a-z-]*)` \| `([a-z0-9-]+)` \| (.+?) \|", PAGE, re.MULTILINE)
    listed = {
        (namespace, secret, key)
        for namespace, secret, keys in rows
        for key in re.findall(r"`([^`]+)`", keys)
    }
    assert listed == wanted_secrets()


def test_the_pages_commands_name_files_that_are_there():
    named = re.findall(r"(?:-k|-f|--file|kustomize) (infra/\S+)", "\n".join(COMMANDS))
    assert len(named) >= 4
    assert all((ROOT / each).exists() for each in named)


def test_the_pages_commands_make_exactly_the_secrets_that_are_referred_to(tmp_path):
    """Where kubectl is there, by running them without a cluster."""
    for secret, key in {each[1:] for each in wanted_secrets()}:
        with (tmp_path / f"{secret}.env").open("a") as file:
            file.write(f"{key}=x\n")
        (tmp_path / key).write_text("x")
    places, made = set(), set()
    for command in COMMANDS:
        for place in re.findall(r"-n (\S+) create secret generic (\S+)", command):
            places.add(place)
            words = [*shlex.split(command)[1:], "--dry-run=client", "--output=yaml"]
            for secret in kubectl(*words, folder=tmp_path) or ():
                assert (secret["metadata"]["namespace"], secret["metadata"]["name"]) == place
                made |= {(*place, key) for key in secret["data"]}
    assert places == {each[:2] for each in wanted_secrets()}
    assert made in (wanted_secrets(), set())


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


def test_every_policy_and_budget_is_about_pods_that_are_there():
    for each in [*of_kind("NetworkPolicy"), *of_kind("PodDisruptionBudget")]:
        selector = each["spec"].get("podSelector", each["spec"].get("selector"))
        here = [
            pod_of(name)["metadata"]["labels"]
            for name in PODS
            if namespace_of(name) == each["metadata"]["namespace"]
        ]
        assert any(matches(selector, labels) for labels in here), name_of(each)


def test_a_drained_node_leaves_a_gateway():
    [budget] = of_kind("PodDisruptionBudget")
    assert PODS["gateway"]["spec"]["replicas"] > budget["spec"]["minAvailable"] >= 1


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
