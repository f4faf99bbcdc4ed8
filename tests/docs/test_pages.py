"""What the pages say is so: links lead somewhere, commands exist, lists are fresh."""

import os
import re
from urllib.parse import unquote

import pytest
import yaml

from gyral.client.commandline import parser
from gyral.client.documents import read
from gyral.client.replay.variants import declared
from gyral.testkit import pages as generated
from gyral.testkit import picture
from tests.docs import pages

SHOWN = [pages.README, *sorted((pages.ROOT / "docs").rglob("*.md"))]
COMMANDS = [command for page in SHOWN for command in pages.commands(page)]
LINK = re.compile(r"(?<!`)\[[^\]]*\]\(([^)\s]+)\)|<img[^>]*src=\"([^\"]+)\"")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)


def anchor(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


@pytest.mark.parametrize("page", pages.markdown(), ids=lambda page: str(page.name))
def test_links_lead_somewhere(page):
    broken = []
    for match in LINK.finditer(CODE.sub("", page.read_text())):
        target = unquote(match[1] or match[2])
        if re.match(r"[a-z]+:", target):
            continue
        path, _, fragment = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        anchors = (
            {anchor(heading) for heading in HEADING.findall(file.read_text())}
            if fragment and file.is_file()
            else {fragment}
        )
        if not file.exists() or fragment not in anchors:
            broken.append(target)
    assert broken == []


def test_there_are_commands_to_check():
    assert len(COMMANDS) >= 15
    assert {"make demo", "make test"} <= {command.text for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_a_command_exists(command):
    for program, *arguments in command.stages:
        match program:
            case "make":
                pages.recipe(arguments[0])
            case ".venv/bin/gyral":
                parser().parse_args(arguments)
            case ".venv/bin/python" | "head" | "java":
                named = [word for word in arguments if word.startswith("examples/")]
                assert named, "expected something of this repository"
                assert all((pages.ROOT / word).is_file() for word in named)
            case _ if program.startswith("examples/"):
                assert os.access(pages.ROOT / program, os.X_OK)
            case _:
                pytest.fail(f"{program}: expected make, gyral or an example")


@pytest.mark.parametrize("name", ["knobs.md", "cli.md"])
def test_a_generated_page_is_fresh(name):
    made = generated.pages()[name]
    assert (pages.ROOT / "docs" / name).read_text() == made, "run `make contracts`"


def test_every_alert_has_a_runbook_and_every_runbook_an_alert():
    rules = yaml.safe_load((pages.ROOT / "infra" / "prometheus" / "rules.yml").read_text())
    alerts = {rule["alert"] for group in rules["groups"] for rule in group["rules"]}
    folder = pages.ROOT / "docs" / "runbooks"
    titles = {
        page.read_text().splitlines()[0].removeprefix("# ")
        for page in folder.glob("*.md")
        if page.name != "README.md"
    }
    _, _, others = (folder / "README.md").read_text().partition("## Without an alert")
    by_hand = {match[1] for match in re.finditer(r"\[(\w+)\]\([a-z-]+\.md\)", others)}
    assert by_hand
    assert titles == alerts | by_hand
    assert not alerts & by_hand


def test_each_services_readme_has_the_same_headings():
    wanted = ["Purpose", "Consumes", "Produces", "Owns", "Knobs", "When it breaks"]
    for page in sorted(pages.ROOT.glob("services/*/README.md")):
        found = re.findall(r"^## (.+)$", page.read_text(), re.MULTILINE)
        assert found == wanted, page


@pytest.mark.parametrize("example", ["flights", "own-csv"])
def test_an_examples_documents_are_a_model_and_its_streams(example):
    folder = pages.ROOT / "examples" / example
    assert declared(read(folder), example).model.spec.features.fields


def test_the_picture_shows_all_three_and_escapes_what_it_is_told():
    scores = {"frozen": 0.5, "timer": 0.47, "loop": 0.46}
    report = picture.Report.model_validate(
        {
            "model": "a<b",
            "rows": 1000,
            "months": [
                {"month": f"2013-{month:02d}", "rows": 9, "log_loss": scores, "auc": scores}
                for month in (3, 4, 5)
            ],
            "log_loss_gain": {"mean": 0.04, "lower95": 0.03},
            "promoted": [{"version": 2, "event_time": "2013-04-10T00:00:00Z"}],
            "rejected": [{"cause": "cusum", "as_of": "2013-05-01T00:00:00Z"}],
        }
    )
    drawn = picture.draw(report)
    assert "a&lt;b" in drawn
    assert "a<b" not in drawn
    for kind in ("line frozen", "line timer", "line loop", "mark promoted", "mark rejected"):
        assert drawn.count(f'class="{kind}"') == 2
