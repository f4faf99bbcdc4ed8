import subprocess
import sys
from importlib import import_module
from importlib.metadata import version

import pytest

from gyral.client.commandline import parser, run


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("GYRAL_HOME", str(tmp_path / "nothing"))
    monkeypatch.delenv("GYRAL_API_KEY", raising=False)


REPLAY = [
    "replay",
    "--spec",
    "s",
    "--data",
    "d",
    "--time",
    "t",
    "--label",
    "l",
    "--report",
    "r",
]


ORDERS = ("abort", "promote", "pause", "resume", "approve", "rollback")
COMMANDS = [
    ["up"],
    ["down"],
    ["status"],
    ["apply", "-f", "file.yaml"],
    ["get", "models"],
    ["predict", "m"],
    ["send", "s"],
    ["runs"],
    ["rollout", "show", "m"],
    *[["rollout", order, "m", "--reason", "why"] for order in ORDERS],
    ["trace", "m"],
    ["audit"],
    ["key", "issue", "n", "--scope", "read"],
    ["key", "revoke", "x"],
    ["retrain", "m", "--reason", "why"],
    ["dlq", "ls"],
    ["dlq", "show", "x"],
    ["dlq", "replay"],
    ["quarantine", "ls"],
    ["quarantine", "show", "1"],
    ["quarantine", "export", "held.parquet"],
    ["quarantine", "replay"],
    ["check-report", "report.json"],
    REPLAY,
]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runs"], "GYRAL_API_KEY: expected a key; found neither it nor"),
        (["audit"], "GYRAL_HOME: expected the folder of an instance"),
        (["apply", "-f", "nowhere.yaml"], "nowhere.yaml: expected a YAML file or a folder"),
        (["get", "versions"], "get versions: expected a model's name after it"),
        (["get", "keys", "shop"], "get keys: expected no name"),
        (["predict", "m", "nowhere.json"], "nowhere.json: expected NDJSON"),
        ([*REPLAY, "--bootstrap", "soon"], "--bootstrap: expected a number and a unit"),
        ([*REPLAY, "--label-lag", "1 h"], "--label-lag: expected a number and a unit"),
        ([*REPLAY, "--until", "later"], "--until: expected a time such as"),
        (["check-report", "nowhere.json"], "expected a report of `gyral replay`"),
        (["dlq", "show", "x"], "id: expected one that `gyral dlq ls` shows"),
        (["dlq", "replay"], "dlq replay: expected --topic, --reason or --id; found none"),
        (["quarantine", "replay"], "quarantine replay: expected --stream, --reason, --since"),
    ],
)
def test_a_mistake_is_one_line_that_says_what_to_do(arguments, message, capsys):
    assert run(arguments) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("gyral: ")
    assert message in err
    assert err.count("\n") == 1


def test_a_key_without_an_address_is_told_which(monkeypatch, capsys):
    monkeypatch.setenv("GYRAL_API_KEY", "k")
    assert run(["runs"]) == 1
    assert (
        "trainer: expected an address; found neither GYRAL_TRAINER_URL"
        in capsys.readouterr().err
    )


def test_every_command_names_something_that_exists():
    given = [parser().parse_args(arguments) for arguments in COMMANDS]
    assert len({each.run for each in given}) == len(COMMANDS)
    for each in given:
        module, _, name = each.run.partition(":")
        assert callable(getattr(import_module(f"gyral.client.commands.{module}"), name))


def test_help_comes_without_heavy_imports():
    script = (
        "import sys, gyral.client.__main__\n"
        "from gyral.client.commandline import parser\n"
        "parser().format_help()\n"
        "heavy = {'numpy', 'pyarrow', 'rich', 'deltalake', 'pydantic', 'aiokafka'}\n"
        "sys.exit(str(heavy & set(sys.modules)) if heavy & set(sys.modules) else 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_version_is_that_of_the_distribution(capsys):
    with pytest.raises(SystemExit) as ended:
        run(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"gyral {version('gyral-client')}\n"
