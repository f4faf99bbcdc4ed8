"""Each import rule refuses what it forbids: broken once, in a throw-away namespace."""

import configparser
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

RULES = ROOT / ".importlinter"


def linted(config: Path, *search: Path) -> subprocess.CompletedProcess[str]:
    """Run import-linter in a process of its own, with `search` before the real portions."""
    script = "import sys; from importlinter.cli import lint_imports_command as main; main()"
    return subprocess.run(
        [sys.executable, "-c", script, "--no-cache", "--config", str(config)],
        cwd=config.parent,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, search)),
            "COLUMNS": "200",
            "NO_COLOR": "1",
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def namespace(tmp_path: Path) -> Path:
    """An empty portion for each root package of the rules, and the rules themselves."""
    rules = configparser.ConfigParser()
    rules.read(RULES)
    for root in rules["importlinter"]["root_packages"].split():
        package = tmp_path / "src" / Path(*root.split("."))
        package.mkdir(parents=True)
        (package / "__init__.py").write_text("")
    (tmp_path / ".importlinter").write_text(RULES.read_text(encoding="utf-8"))
    return tmp_path


def broken_by(namespace: Path, modules: dict[str, str]) -> list[str]:
    """Names of the rules that refuse a namespace with these modules in it."""
    for module, source in modules.items():
        path = namespace / "src" / "gyral" / module
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
    result = linted(namespace / ".importlinter", namespace / "src")
    broken = [line for line in result.stdout.splitlines() if line.endswith(" BROKEN")]
    assert bool(broken) == (result.returncode != 0), result.stdout + result.stderr
    return [line.split(":")[0] for line in broken]


def test_the_real_namespace_keeps_every_rule():
    result = linted(RULES, ROOT)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_namespace_of_rooms_that_import_downwards_keeps_every_rule(namespace: Path):
    modules = {
        "monitor/__main__.py": "import gyral.monitor.app\nimport gyral.monitor.settings\n",
        "monitor/app.py": "import aiokafka\nimport gyral.monitor.handlers\n"
        "import gyral.monitor.settings\n",
        "monitor/settings.py": "import pydantic_settings\n",
        "monitor/handlers.py": "import gyral.monitor.store\nimport gyral.monitor.engine\n",
        "monitor/engine.py": "import sklearn\nimport gyral.monitor.domain\n",
        "monitor/store.py": "import asyncpg\nimport gyral.monitor.domain\nimport gyral.kit\n",
        "monitor/domain.py": "import math\nimport gyral.contracts\nimport gyral.modelling\n",
    }
    assert broken_by(namespace, modules) == []


@pytest.mark.parametrize(
    ("rule", "modules"),
    [
        pytest.param("rooms", {"monitor/utils.py": ""}, id="a module that is no room"),
        pytest.param(
            "rooms",
            {
                "monitor/store.py": "import gyral.monitor.handlers\n",
                "monitor/handlers.py": "",
            },
            id="a store that calls handlers",
        ),
        pytest.param(
            "pure", {"monitor/domain.py": "import asyncio\n"}, id="a domain that waits"
        ),
        pytest.param(
            "pure",
            {"monitor/domain/__init__.py": "", "monitor/domain/gates.py": "import gyral.kit\n"},
            id="a domain package that knows the kit",
        ),
        pytest.param(
            "islands",
            {"monitor/handlers.py": "import gyral.gateway\n"},
            id="a service in another",
        ),
        pytest.param(
            "down", {"kit/bus.py": "import gyral.monitor\n"}, id="a kit that looks up"
        ),
        pytest.param("down", {"modelling/blocks.py": "import gyral.kit\n"}, id="siblings"),
        pytest.param(
            "down", {"contracts/data.py": "import gyral.kit\n"}, id="contracts look up"
        ),
        pytest.param(
            "runner", {"local/compose.py": "import gyral.kit\n"}, id="a runner with kit"
        ),
        pytest.param("bus", {"monitor/store.py": "import aiokafka\n"}, id="Kafka in a store"),
        pytest.param("bus", {"monitor/handlers.py": "import faststream\n"}, id="in handlers"),
        pytest.param("bus", {"monitor/settings.py": "import aiokafka\n"}, id="in settings"),
        pytest.param("heavy", {"trainer/jobs.py": "import sklearn\n"}, id="sklearn in jobs"),
        pytest.param("heavy", {"trainer/app.py": "import torch\n"}, id="torch in app"),
        pytest.param("heavy", {"kit/blobs.py": "import bentoml\n"}, id="BentoML in the kit"),
        pytest.param(
            "edge",
            {
                "monitor/settings/__init__.py": "",
                "monitor/engine.py": "import gyral.monitor.settings\n",
            },
            id="an engine that reads settings",
        ),
        pytest.param(
            "tests-only",
            {"kit/bus.py": "import gyral.testkit\n"},
            id="a kit that needs the testkit",
        ),
    ],
)
def test_the_rule_refuses(namespace: Path, rule: str, modules: dict[str, str]):
    assert rule in broken_by(namespace, modules)
