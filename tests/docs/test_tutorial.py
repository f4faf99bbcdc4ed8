"""The tutorial, typed as it stands into a fresh instance."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs import pages

pytestmark = [pytest.mark.live, pytest.mark.timeout(480)]
BIN = Path(sys.executable).parent


@pytest.fixture
def typed(tmp_path):
    """Run every command of the tutorial, in order; the instance goes when the test does."""
    environment = os.environ | {
        "GYRAL_HOME": str(tmp_path / "instance"),
        "GYRAL_PORTS": "any",
        "COLUMNS": "200",
    }

    def run(words, given=""):
        return subprocess.run(
            words,
            cwd=pages.ROOT,
            env=environment,
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )

    def words_of(stage):
        program, *arguments = stage
        if program == "make":
            return words_of(pages.recipe(arguments[0]))
        here = [str(tmp_path / word) if word.startswith("out/") else word for word in arguments]
        return [program.replace(".venv/bin", str(BIN)), *here]

    def type_all():
        said = {}
        for command in pages.commands(pages.TUTORIAL):
            piped = ""
            for stage in command.stages:
                done = run(words_of(stage), piped)
                assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
                piped = done.stdout
            said[command.text] = piped
        return said

    yield type_all
    run(words_of(["make", "down"]))


def test_the_tutorial_can_be_followed_word_by_word(typed, tmp_path):
    said = typed()
    report = json.loads((tmp_path / "out" / "churn" / "report.json").read_text())
    assert report["log_loss_gain"]["mean"] > 0
    assert report["promotions"]
    assert report["rejections"]
    assert set(report["invariants"].values()) == {0}
    assert (tmp_path / "out" / "churn" / "report.html").stat().st_size > 0

    [predicted] = [text for command, text in said.items() if " predict " in command]
    assert len(predicted.splitlines()) == 3
    [kept] = [text for command, text in said.items() if " quarantine ls " in command]
    assert "gold" in kept
    assert "rejected" in said[".venv/bin/gyral trace churn"]
