import socket
import stat
import subprocess
from pathlib import Path

from gyral.local import docker, ports
from gyral.local.instance import POM, Instance, PortChoice

ROOT = Path(__file__).resolve().parents[2]


def an_instance(home: Path) -> Instance:
    return Instance(home, compose=ROOT / "docker-compose.yml", port_choice=PortChoice.ANY)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_ports_and_secrets_are_chosen_once(tmp_path: Path):
    first = an_instance(tmp_path / "home").prepare()
    assert an_instance(tmp_path / "home").prepare() == first
    assert an_instance(tmp_path / "home").env() == first


def test_two_instances_share_nothing(tmp_path: Path):
    one, other = (an_instance(tmp_path / name).prepare() for name in ("one", "other"))
    names = [n for n in one if n.endswith(("_SECRET", "_PASSWORD", "_KEY", "_HOME", "RUN_DIR"))]
    assert names != []
    assert [name for name in names if one[name] == other[name]] == []


def test_only_the_owner_can_read_what_is_secret(tmp_path: Path):
    instance = an_instance(tmp_path / "home")
    instance.prepare()
    assert mode(instance.home) == mode(instance.secrets) == 0o700
    assert mode(instance.env_file) == 0o600
    assert {path.name: mode(path) for path in instance.secrets.iterdir()} == {
        "admin.key": 0o600,
        "service.key": 0o600,
        "personal.key": 0o600,
    }


def test_a_changed_port_moves_the_addresses_that_follow_from_it(tmp_path: Path):
    instance = an_instance(tmp_path / "home")
    port = instance.prepare()["KAFKA_PORT"]
    text = instance.env_file.read_text()
    instance.env_file.write_text(text.replace(f"KAFKA_PORT={port}", "KAFKA_PORT=29999"))
    assert instance.prepare()["KAFKA_BROKERS"] == "127.0.0.1:29999"
    assert "KAFKA_BROKERS=127.0.0.1:29999" in instance.env_file.read_text()


def test_preferred_ports_are_taken_when_free_and_left_when_not(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        busy = other.getsockname()[1]
        chosen = ports.choose({"A_PORT": busy}, (), prefer=True)
    assert chosen["A_PORT"] != busy
    free = chosen["A_PORT"]
    assert ports.choose({"A_PORT": free}, (), prefer=True) == {"A_PORT": free}
    assert ports.choose({"A_PORT": free}, (free,), prefer=True) != {"A_PORT": free}


def test_a_deep_home_still_has_room_for_sockets(tmp_path: Path):
    instance = an_instance(tmp_path / ("deep" * 20) / "home")
    folder = Path(instance.prepare()["RUN_DIR"])
    assert len(str(folder / "runtime.sock")) < 108
    assert mode(folder) == 0o700
    folder.rmdir()


def test_docker_gets_the_same_secrets(tmp_path: Path):
    checkout = tmp_path / "checkout"
    checkout.mkdir()
    (checkout / "docker-compose.yml").write_bytes((ROOT / "docker-compose.yml").read_bytes())
    instance = Instance(checkout / ".gyral", compose=checkout / "docker-compose.yml")
    docker.write_env(instance)
    docker.write_env(instance)
    given = dict(line.split("=", 1) for line in (checkout / ".env").read_text().splitlines())
    secrets = instance.document().instance.secrets
    assert {name: given[name] for name in secrets} == {n: instance.env()[n] for n in secrets}
    mounted = Path(given["GYRAL_SECRETS"])
    assert mode(checkout / ".env") == 0o600
    assert mode(mounted) == 0o700
    for name in ("admin.key", "service.key", "personal.key"):
        assert (mounted / name).read_bytes() == (instance.secrets / name).read_bytes()
        assert mode(mounted / name) == 0o444


def test_instances_and_secrets_are_never_committed():
    ignored = [".gyral/instance.env", ".env", ".gyral/secrets/admin.key"]
    answer = subprocess.run(
        ["git", "check-ignore", *ignored],  # noqa: S607 - git is looked up on PATH
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.split() == ignored


def test_the_list_of_jars_names_no_registry():
    text = POM.read_text()
    addresses = [
        word for word in text.split() if "://" in word and "maven.apache.org" not in word
    ]
    assert "<repository>" not in text
    assert [a for a in addresses if "w3.org" not in a] == []
