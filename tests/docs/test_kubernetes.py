"""The page on Kubernetes: what it has one type, write and make is what the manifests want."""

import json
import re
import shlex
import shutil
import subprocess

import yaml

from tests.infra.manifests import (
    FOLDER,
    OBJECTS,
    PODS,
    ROOT,
    namespace_of,
    of_kind,
    references,
)

PAGE = (ROOT / "docs" / "kubernetes.md").read_text()
COMMANDS = "\n".join(
    re.findall(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
).splitlines()


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
