"""OMP_NUM_THREADS is set before numerical libraries start, wherever a process begins.

A thread per core and process starves a busy machine: a fit of one second took most of a minute.
"""

import os
import subprocess
import sys

import pytest
import yaml

from tests.architecture.sources import ROOT, lines_matching

NUMERICAL = ("numpy", "scipy", "sklearn", "onnxruntime", "torch")
VARIABLE = "OMP_NUM_THREADS"
UNSET = {name: value for name, value in os.environ.items() if name != VARIABLE}


def own_services() -> dict[str, dict[str, str]]:
    """Environment of each compose entry that runs our own code."""
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    return {
        name: entry.get("environment", {})
        for name, entry in compose["services"].items()
        if entry.get("image", "").startswith("gyral:")
    }


def test_every_service_of_the_graph_is_told_its_number_of_threads():
    environments = own_services()
    assert len(environments) >= len(("seven services", "runtime"))
    assert [name for name, variables in environments.items() if VARIABLE not in variables] == []


def test_a_service_without_the_variable_does_not_start():
    script = "from gyral.kit.threads import require_single_threaded as check; check()"
    result = subprocess.run(
        [sys.executable, "-c", script], env=UNSET, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith(f"{VARIABLE}: expected a number")


def test_the_chassis_asks_for_the_variable():
    assert lines_matching(r"^\s+require_single_threaded\(\)", "libs/kit/src/**.py") != []


def test_make_and_the_tests_set_the_variable():
    assert VARIABLE in os.environ
    assert lines_matching(rf"^export {VARIABLE} \?= 1$", "Makefile") != []


@pytest.mark.parametrize("entry", ["gyral.client.__main__", "gyral.local.__main__"])
def test_a_tool_sets_the_variable_before_it_imports_numbers(entry: str):
    script = (
        f"import sys, os, {entry}\n"
        f"early = [name for name in {NUMERICAL!r} if name in sys.modules]\n"
        f"unset = {VARIABLE!r} not in os.environ\n"
        "sys.exit(f'imported early: {early}' if early and unset else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], env=UNSET, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
