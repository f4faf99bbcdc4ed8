"""A decision's page is short, complete, listed, and names things that exist."""

import re
from pathlib import Path

import pytest

from tests.architecture.sources import ROOT

FOLDER = ROOT / "docs" / "adr"
PAGES = sorted(FOLDER.glob("[0-9]*.md"))
HEADINGS = ["Context", "Decision", "Consequences", "Alternatives", "Enforced by"]


def test_the_index_lists_every_page_with_its_own_title():
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| \[\d{4}\]\((.+?)\) \| (.+?) \|$", index, flags=re.MULTILINE))
    titles = {page.name: page.read_text(encoding="utf-8").splitlines()[0][7:] for page in PAGES}
    assert rows == titles


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short_and_complete(page: Path):
    content = page.read_text(encoding="utf-8")
    assert content.startswith(f"# {page.name[:4]} ")
    assert re.findall(r"^## (.+)$", content, flags=re.MULTILINE) == HEADINGS
    assert len(content.splitlines()) < 60


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_enforces_a_decision_exists(page: Path):
    enforced = page.read_text(encoding="utf-8").split("## Enforced by")[1]
    paths = re.findall(r"`((?:tests|docs|infra|libs)/[\w./]+|\.importlinter)`", enforced)
    rules = re.findall(r"\*(\w+)\*", enforced)
    linted = (ROOT / ".importlinter").read_text(encoding="utf-8")
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [rule for rule in rules if f"[importlinter:contract:{rule}]" not in linted] == []
