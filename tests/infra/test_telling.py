"""What the stack's command lines say; both of them, word for word."""

import subprocess
import sys
from pathlib import Path

import pytest

from gyral.local import telling
from gyral.local.statuses import Phase, Status

HOME = Path(".gyral")


def test_a_table_is_as_wide_as_its_names_and_says_so_when_there_is_nothing():
    found = {
        "kafka": Status("kafka", Phase.HEALTHY, pid=7),
        "provision-topics": Status("provision-topics", Phase.COMPLETED, restarts=2),
    }
    assert telling.table(found) == [
        "NAME              PHASE      PID  RESTARTS",
        "kafka             healthy    7    0",
        "provision-topics  completed  -    2",
    ]
    assert telling.table({}) == ["no stack here; start with `make up`"]


def test_a_success_is_one_line():
    found = [
        Status("kafka", Phase.HEALTHY, pid=7),
        Status("provision", Phase.COMPLETED),
        Status("gateway", Phase.STOPPED),
    ]
    assert telling.started(HOME, found) == (
        "2 processes up; addresses are in .gyral/instance.env"
    )
    assert telling.stopped(HOME, found) == "1 process stopped; data stay in .gyral"
    assert telling.stopped(HOME, []) == "no stack here; start with `make up`"


@pytest.mark.parametrize("command", ["status", "down"])
@pytest.mark.parametrize("module", ["gyral.local", "gyral.client"])
def test_without_a_stack_both_command_lines_say_how_to_start_one(module, command, tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", module, command],
        env={"GYRAL_HOME": str(tmp_path / "nothing"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{telling.NO_STACK}\n", "")
    assert not (tmp_path / "nothing").exists()
