"""The runbooks of what is parked, typed as they stand."""

import pytest

from tests.docs import pages
from tests.libs.client.parked import parked_platform
from tests.libs.kit.line import Lying
from tests.services.validation.desk import refused

pytestmark = pytest.mark.live
FOLDER = pages.ROOT / "docs" / "runbooks"
TYPED_BY_THE_TUTORIAL = {command.text for command in pages.commands(pages.TUTORIAL)}


@pytest.fixture
async def platform(stack, tmp_path):
    async with parked_platform(stack, tmp_path) as made:
        yield made


async def typed(platform, page, shown):
    """Type every command of a page, with an id that exists, and return what each said."""
    said = {}
    for command in pages.commands(FOLDER / page):
        if command.text in TYPED_BY_THE_TUTORIAL:
            continue
        [[program, *words]] = command.stages
        assert program == ".venv/bin/gyral"
        if "show" in words:
            words[-1] = str(shown)
        said[command.text] = await platform.type(*words)
    return said


async def test_parked_events_are_found_and_replayed_as_the_runbook_says(platform):
    line = platform.lines["registry"]
    await line.come(Lying(b"nonsense"))
    await line.pool.execute(
        "UPDATE dead_letter SET topic = 'training.run.succeeded.v1', reason = 'bug'"
    )
    [letter] = await platform.read("dlq", "ls")
    said = await typed(platform, "events-parked.md", letter["id"])
    assert len(said) == 5
    assert [entry[1] for entry in await line.audit()] == ["mended in 1.4.2"]
    assert '"state": "replayed"' in said[".venv/bin/gyral dlq ls --state all -o json"]


async def test_refused_rows_are_found_exported_and_replayed_as_the_runbook_says(platform):
    [id_] = await platform.desk.refuse(refused(1))
    said = await typed(platform, "quarantine.md", id_)
    assert len(said) == 8
    assert {path.name for path in platform.folder.iterdir()} == {"held.parquet", "held.ndjson"}
    [(_, _, because, items)] = await platform.desk.audit()
    assert (because, items) == ("prices up to 500 since version 3", [str(id_)])
