import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.infra.small import RUNNER

CLOSED = " ".join(
    f"-D{scheme}.proxyHost=127.0.0.1 -D{scheme}.proxyPort=9" for scheme in ("http", "https")
)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder that is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    return folder


def fails_in_one_line(tmp_path: Path, *only: str, **environment: str) -> str:
    given = {
        **os.environ,
        "GYRAL_HOME": str(tmp_path / "home"),
        "GYRAL_CACHE": str(tmp_path / "cache"),
        "GYRAL_PORTS": "any",
        **environment,
    }
    answer = subprocess.run(
        [*RUNNER, "up", "--only", *only], env=given, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 1, answer.stderr
    [line] = answer.stderr.splitlines()
    return line


def test_missing_java_is_told(tmp_path: Path, programs: Path):
    line = fails_in_one_line(tmp_path, "kafka", PATH=str(programs))
    assert line.startswith("gyral: Java is missing: install")


def test_java_that_is_too_old_is_told(tmp_path: Path, programs: Path):
    java = programs / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\"' >&2\n")
    java.chmod(0o755)
    line = fails_in_one_line(tmp_path, "kafka", PATH=str(programs))
    assert line.startswith("gyral: Java 17 or later is needed, `java` is 11:")


def test_missing_maven_is_told(tmp_path: Path, programs: Path):
    (programs / "java").symlink_to(str(shutil.which("java")))
    line = fails_in_one_line(tmp_path, "kafka", PATH=str(programs))
    assert line.startswith("gyral: Maven is missing: install")


def test_an_unreachable_registry_is_told(tmp_path: Path):
    nowhere = f"{CLOSED} -Dmaven.repo.local={tmp_path / 'repository'}"
    line = fails_in_one_line(tmp_path, "minio", MAVEN_OPTS=nowhere)
    assert line.startswith("gyral: Maven could not fetch s3proxy (")
    assert "check the network" in line
    left = [path.name for path in (tmp_path / "cache" / "jars").glob("*/*") if path.is_dir()]
    assert left == []


def test_a_busy_port_is_told_with_the_variable_to_change(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        (tmp_path / "home").mkdir()
        (tmp_path / "home" / "instance.env").write_text(f"POSTGRES_PORT={port}\n")
        line = fails_in_one_line(tmp_path, "postgres")
    assert line.startswith(f"gyral: port {port} of postgres is taken: stop what listens there")
    assert f"change POSTGRES_PORT in {tmp_path}" in line


def test_a_full_disk_is_told(tmp_path: Path):
    line = fails_in_one_line(tmp_path, "postgres", GYRAL_LEAST_FREE_MIB="1000000000")
    assert "MiB left and needs 1000000000: free some space" in line


def test_a_home_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    line = fails_in_one_line(tmp_path, "postgres", GYRAL_HOME=str(tmp_path / "file" / "home"))
    assert "cannot be written (Not a directory)" in line
    assert "set GYRAL_HOME to another folder" in line


def test_an_unknown_service_is_told_with_those_there_are(tmp_path: Path):
    line = fails_in_one_line(tmp_path, "postgress")
    assert line.startswith("gyral: no service or group is called 'postgress'; there are: ")


def test_a_malformed_compose_file_is_told_with_the_field(tmp_path: Path):
    compose = tmp_path / "docker-compose.yml"
    compose.write_text("services: {a: {x-local: {command: []}}}")
    line = fails_in_one_line(tmp_path, "a", GYRAL_COMPOSE_FILE=str(compose))
    assert "services.a.x-local.command is []" in line
