"""The page on reading the lake, typed as it stands: its commands, then its notebook."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from gyral.testkit.waiting import until
from tests.docs import pages

pytestmark = [pytest.mark.live, pytest.mark.timeout(300)]
PAGE = pages.ROOT / "docs" / "tutorials" / "read-the-lake.md"
BIN = Path(sys.executable).parent
ROWS = 7500
NOTEBOOK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture
def typed(tmp_path):
    """Run words as on the page, `out/` being a folder of this test."""
    environment = os.environ | {
        "GYRAL_HOME": str(tmp_path / "instance"),
        "GYRAL_PORTS": "any",
        "COLUMNS": "200",
    }

    def run(*words):
        program, *arguments = words
        if program == "make":
            return run(*pages.recipe(arguments[0]))
        here = [str(tmp_path / word) if word.startswith("out/") else word for word in arguments]
        done = subprocess.run(
            [program.replace(".venv/bin", str(BIN)), *here],
            cwd=pages.ROOT,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}{done.stderr}"
        return done.stdout

    yield run
    run("make", "down")


async def test_the_page_can_be_followed_word_by_word(typed, tmp_path):
    said = {}
    for command in pages.commands(PAGE):
        [words] = command.stages
        said[command.text] = typed(*words)
        if " send " in command.text:

            async def landed():
                listed = typed(".venv/bin/gyral", "dataset", "ls", "renewals", "-o", "json")
                return any(each["rows"] == ROWS for each in json.loads(listed))

            await until(landed, timeout_s=60)
    [pin] = json.loads(typed(".venv/bin/gyral", "dataset", "show", "renewals", "-o", "json"))
    exported = said[".venv/bin/gyral dataset export renewals --to out/renewals.parquet"]
    assert pin["content"] in exported
    assert str(ROWS) in exported
    audited = said[".venv/bin/gyral audit"].splitlines()
    [kept] = [line.split() for line in audited if "datasets_hold_what_they_pin" in line]
    assert kept[1] == "0"
    assert (tmp_path / "out" / "fees.parquet").stat().st_size > 0

    blocks = NOTEBOOK.findall(PAGE.read_text())
    assert len(blocks) == 4
    shown = typed(".venv/bin/python", "-W", "error", "-c", "\n".join(blocks))
    for plan in ("basic", "plus", "pro"):
        assert shown.count(plan) == 3, shown
