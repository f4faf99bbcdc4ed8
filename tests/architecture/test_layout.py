"""The shape of the tree: one namespace, telling names, small modules, the same pages."""

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT, SERVICES, imported, texts, tracked, trees

MODULE_LINES = 400
NAMELESS = {"base", "common", "helpers", "manager", "misc", "shared", "util", "utils"}
HEADINGS = ["Purpose", "Consumes", "Produces", "Owns", "Knobs", "When it breaks"]
DISTRIBUTIONS = sorted(path.parent for path in tracked("*/pyproject.toml"))


def test_nobody_claims_the_namespace():
    claimed = [
        path for path in ROOT.glob("*/**/src/gyral/__init__.py") if ".venv" not in path.parts
    ]
    assert claimed == []


def test_modules_stay_small():
    large = {
        name: len(content.splitlines())
        for name, content in texts("*.py")
        if len(content.splitlines()) > MODULE_LINES
    }
    assert large == {}


def test_every_module_has_a_name_that_says_something():
    nameless = [
        path
        for path in tracked("*.py")
        if path.stem in NAMELESS or path.parent.name in NAMELESS
    ]
    assert nameless == []


def test_every_module_says_in_one_sentence_what_it_is_for():
    def first_line(tree: ast.Module) -> str:
        return (ast.get_docstring(tree) or "").split("\n")[0]

    silent = [
        name
        for name, tree in trees("*.py")
        if not name.startswith("tests/") and not first_line(tree).endswith((".", "?"))
    ]
    assert silent == []


def test_annotations_are_values_that_pydantic_can_read():
    postponed = [
        f"{name}:{line}"
        for name, tree in trees("*.py")
        for line, module in imported(tree)
        if module == "__future__"
    ]
    assert postponed == []


def test_all_distributions_of_the_design_exist():
    names = {path.relative_to(ROOT).as_posix() for path in DISTRIBUTIONS}
    libraries = {f"libs/{name}" for name in ("kit", "modelling", "client", "testkit")}
    assert names == {
        "contracts",
        "infra/local",
        *libraries,
        *(f"services/{s}" for s in SERVICES),
    }


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)
def test_a_distribution_is_typed_described_and_licensed(folder: Path):
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    packages = [path for path in (folder / "src" / "gyral").iterdir() if path.is_dir()]
    assert project["name"] == f"gyral-{folder.name}"
    assert project["license"] == "Apache-2.0"
    assert (
        (folder / project["readme"])
        .read_text(encoding="utf-8")
        .startswith(f"# {project['name']}")
    )
    assert [path.name for path in packages if not (path / "py.typed").exists()] == []


@pytest.mark.parametrize("folder", DISTRIBUTIONS, ids=lambda folder: folder.name)
def test_a_distribution_declares_the_portions_it_imports(folder: Path):
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {
        match.group(1)
        for need in project["dependencies"]
        if (match := re.match(r"gyral-(\w+)", need))
    }
    own = {path.name for path in (folder / "src" / "gyral").iterdir()}
    needed = {
        module.split(".")[1]
        for _, tree in trees(f"{folder.relative_to(ROOT)}/src/**.py")
        for _, module in imported(tree)
        if module.startswith("gyral.")
    }
    assert needed - own - declared == set()


def test_torch_is_an_extra_of_what_trains_or_serves_networks():
    wanting = {}
    for folder in DISTRIBUTIONS:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        project = tomllib.loads(text)["project"]
        assert not any(need.startswith("torch") for need in project["dependencies"])
        if "torch" in text:
            wanting[folder.name] = project["optional-dependencies"]["torch"]
    assert set(wanting) == {"modelling", "trainer", "deployer"}
    assert "torch" in wanting["modelling"]


@pytest.mark.parametrize("service", SERVICES)
def test_a_services_page_answers_the_six_questions(service: str):
    page = (ROOT / "services" / service / "README.md").read_text(encoding="utf-8")
    parts = re.split(r"^## (.+)$", page, flags=re.MULTILINE)
    answers = dict(zip(parts[1::2], parts[2::2], strict=True))
    assert list(answers)[: len(HEADINGS)] == HEADINGS
    assert [heading for heading in HEADINGS if not answers[heading].strip()] == []
