"""The project's tracked files, as the architecture tests read them."""

import ast
import re
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SERVICES = (
    "ingestion",
    "validation",
    "trainer",
    "registry",
    "deployer",
    "gateway",
    "monitor",
)


@cache
def tracked(*patterns: str) -> tuple[Path, ...]:
    """Return the tracked files that match any of git's patterns and still exist."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--", *patterns],  # noqa: S607 - git is looked up on PATH
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    paths = (ROOT / name for name in listed.split("\0") if name)
    return tuple(path for path in paths if path.is_file())


def texts(*patterns: str) -> Iterator[tuple[str, str]]:
    """Yield name and content of the tracked files that are text."""
    for path in tracked(*patterns):
        content = path.read_bytes()
        if b"\0" not in content[:8192]:
            yield str(path.relative_to(ROOT)), content.decode("utf-8")


def lines_matching(pattern: str, *patterns: str, but: tuple[str, ...] = ()) -> list[str]:
    """Return `file:line: text` where the regular expression is found in tracked text."""
    found = re.compile(pattern)
    return [
        f"{name}:{number}: {line.strip()}"
        for name, content in texts(*patterns)
        if name not in but
        for number, line in enumerate(content.splitlines(), 1)
        if found.search(line)
    ]


def trees(*patterns: str) -> Iterator[tuple[str, ast.Module]]:
    """Yield name and syntax tree of the tracked Python files."""
    for name, content in texts(*patterns):
        if name.endswith(".py"):
            yield name, ast.parse(content, filename=name)


def imported(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of everything a module imports, wherever it does."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module


def called(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of every call whose name can be read off the source."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func)
