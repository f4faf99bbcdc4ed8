"""What may not be in the tree: unsafe loading, sleeping tests, loose ends, machine paths."""

import re

import pytest

from tests.architecture.sources import ROOT, called, imported, lines_matching, texts, trees

THIS = "tests/architecture/test_hygiene.py"
SHIPPED = ("contracts/src/**.py", "libs/**.py", "services/**.py", "infra/**.py")
UNSAFE_MODULES = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
UNSAFE_CALLS = {"torch.load", "torch.save", "yaml.load", "yaml.unsafe_load"}


def test_nothing_shipped_can_unpickle():
    found = [
        f"{name}:{line}: {what}"
        for name, tree in trees(*SHIPPED)
        for line, what in [*imported(tree), *called(tree)]
        if what.split(".")[0] in UNSAFE_MODULES or what in UNSAFE_CALLS
    ]
    assert found == []
    assert lines_matching(r"allow_pickle\s*=\s*True", *SHIPPED) == []


def test_no_test_waits_by_sleeping():
    found = [
        f"{name}:{line}: {what}"
        for name, tree in trees("tests/**.py", "libs/testkit/**.py")
        for line, what in called(tree)
        if what.split(".")[-1] == "sleep"
    ]
    assert found == []


def test_no_test_is_skipped_for_good():
    assert lines_matching(r"mark\.(skip|xfail)\b", "tests/**.py", but=(THIS,)) == []


def test_no_work_is_left_unfinished():
    marks = r"\b(TODO|FIXME|XXX)\b|raise NotImplementedError"
    assert lines_matching(marks, "*.py", "*.sh", "*.yaml", "*.yml", "*.sql", but=(THIS,)) == []


def test_no_file_knows_the_machine_it_was_written_on():
    paths = r"(?<![\w.}$*])/(root|work|home/[a-z]\w*|Users/\w+)(/|\b(?![\w-]))"
    assert lines_matching(paths, but=(THIS,)) == []


def test_no_lock_or_client_configuration_names_an_index():
    addresses = r"://|index-url|find-links|registry *="
    allowed = re.compile(r"maven\.apache\.org/(POM|xsd)|w3\.org|resolved via")
    patterns = (
        "requirements/*",
        "*.lock",
        "*package-lock.json",
        "*.npmrc",
        "*pip.conf",
        "*pom.xml",
    )
    found = [line for line in lines_matching(addresses, *patterns) if not allowed.search(line)]
    assert found == []
    assert [name for name, _ in texts("*uv.lock", "*pylock*.toml")] == []


LOCKS = sorted(
    path.relative_to(ROOT / "requirements").with_suffix("").as_posix()
    for path in (ROOT / "requirements").rglob("*.in")
)


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_requirement_carries_its_hashes(lock: str):
    [(_, content)] = texts(f"requirements/{lock}.txt")
    entries = re.split(r"\n(?=[a-zA-Z0-9])", content)
    assert [entry.split()[0] for entry in entries if "--hash=sha256:" not in entry] == []
