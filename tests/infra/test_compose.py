import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from gyral.local import compose, document
from gyral.local.document import Document
from gyral.local.errors import LocalError
from gyral.local.interpolation import interpolate

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "docker-compose.yml"
SERVICES = {
    "ingestion",
    "validation",
    "trainer",
    "registry",
    "deployer",
    "gateway",
    "monitor",
    "runtime",
}
ENTRIES = yaml.safe_load(FILE.read_text())["services"]
OF_THIS_PROJECT = {name for name, entry in ENTRIES.items() if "build" in entry}


def variables() -> dict[str, str]:
    """Return a value for every variable of the file; "1" is a port, too."""
    return dict.fromkeys(re.findall(r"\$\{?([A-Z_0-9]+)", FILE.read_text()), "1")


def graph() -> dict[str, compose.Service]:
    return compose.services(document.read(FILE), variables())


def test_the_file_is_valid_compose():
    checked = subprocess.run(
        [
            str(Path(sys.executable).with_name("check-jsonschema")),
            "--builtin-schema",
            "vendor.compose-spec",
            str(FILE),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stdout


def test_every_service_runs_with_and_without_docker():
    assert SERVICES | {"provision", "bridge"} == OF_THIS_PROJECT
    assert set(graph()) >= SERVICES | {
        "kafka",
        "postgres",
        "minio",
        "zipkin",
        "bridge",
        "provision",
    }


@pytest.mark.parametrize("name", sorted(OF_THIS_PROJECT))
def test_both_ways_run_the_same_module(name: str):
    local = ENTRIES[name]["x-local"]["command"]
    assert local == ["${PYTHON}", *ENTRIES[name]["command"][1:]]


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_containers_may_do_nothing_they_need_not(name: str):
    entry = ENTRIES[name]
    assert entry["read_only"] is True
    assert entry["cap_drop"] == ["ALL"]
    assert entry["security_opt"] == ["no-new-privileges:true"]
    assert entry["restart"] in {"unless-stopped", "on-failure"}


@pytest.mark.parametrize("name", sorted(ENTRIES))
def test_ports_are_published_on_loopback_only(name: str):
    ports = ENTRIES[name].get("ports", [])
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


@pytest.mark.parametrize("name", sorted(OF_THIS_PROJECT))
def test_numerical_libraries_get_one_thread(name: str):
    assert ENTRIES[name]["environment"]["OMP_NUM_THREADS"] == "1"


def test_no_secret_has_a_default():
    text = FILE.read_text()
    for name in document.read(FILE).instance.secrets:
        used = re.findall(r"\$\{" + name + r"([^}]*)\}", text)
        assert used != [], name
        assert {rest[:2] for rest in used} <= {":?", ""}, name
    without = {
        name: value for name, value in variables().items() if name != "POSTGRES_PASSWORD"
    }
    with pytest.raises(LocalError, match=r"POSTGRES_PASSWORD: run python -m gyral\.local env"):
        compose.services(document.read(FILE), without)


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_services_wait_for_provisioning_and_are_probed(name: str):
    service = graph()[name]
    assert service.needs["provision"] is compose.Condition.COMPLETED
    assert service.health is not None
    assert service.live is not None
    assert ENTRIES[name]["healthcheck"]["test"][0] == "CMD"


def test_everything_is_listed_after_what_it_needs():
    seen: set[str] = set()
    for name, service in graph().items():
        assert set(service.needs) <= seen
        seen.add(name)


def test_a_selection_brings_what_it_needs():
    assert set(compose.select(graph(), ["infra"])) == {
        "kafka",
        "postgres",
        "minio",
        "provision",
    }
    assert set(compose.select(graph(), ["deployer"])) == {
        "kafka",
        "postgres",
        "minio",
        "provision",
        "runtime",
        "deployer",
    }


def test_a_cycle_is_refused():
    local = {"command": ["true"]}
    tied = {
        "a": {"x-local": local, "depends_on": {"b": {}}},
        "b": {"x-local": local, "depends_on": {"a": {}}},
    }
    with pytest.raises(LocalError, match="depends_on has a cycle"):
        compose.services(Document.model_validate({"services": tied}), {})


@pytest.mark.parametrize(
    ("text", "filled"),
    [
        ("${A}-$A", "one-one"),
        ("${B:-two}/${B-two}", "two/two"),
        ("${E:-two}/${E-two}", "two/"),
        ("${A:-two}", "one"),
        ("${B:-http://kafka:9092}", "http://kafka:9092"),
        ("$$A", "$A"),
        ("100%", "100%"),
    ],
)
def test_variables_are_filled_in_as_docker_does(text: str, filled: str):
    assert interpolate(text, {"A": "one", "E": ""}) == filled


@pytest.mark.parametrize("text", ["${B}", "${B:?make one}", "${E:?make one}"])
def test_a_missing_variable_is_told(text: str):
    with pytest.raises(LocalError, match=r"docker-compose\.yml needs [BE]: "):
        interpolate(text, {"E": ""})


@pytest.mark.parametrize(
    ("text", "value"),
    [("2s", 2.0), ("1m30s", 90.0), ("500ms", 0.5), ("1.5s", 1.5), ("10m", 600.0)],
)
def test_durations_are_read_as_docker_does(text: str, value: float):
    assert compose.seconds(text) == value


@pytest.mark.parametrize("text", ["", "5", "s", "fast"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(LocalError, match="is no duration; expected"):
        compose.seconds(text)
