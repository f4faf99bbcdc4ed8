"""What is generated is committed and fresh, and says what the services really do."""

import re
from pathlib import Path

import pytest

from gyral.contracts import catalogue, documents
from gyral.contracts.parties import PARTIES

ROOT = Path(__file__).parents[2]
EVENT = re.compile(r"(?:Projection\(\s*[\w.]+,\s*|bus\.on\(\s*)([A-Z]\w+)")


@pytest.mark.parametrize(
    ("name", "schema"),
    list(documents.schemas()),
    ids=lambda value: value if isinstance(value, str) else "schema",
)
def test_schemas_are_fresh(name, schema):
    committed = (ROOT / "contracts" / "schemas" / name).read_text()
    assert committed == documents.as_text(schema), "run `make contracts`"


def test_the_asyncapi_document_and_the_page_of_events_are_fresh():
    asyncapi = (ROOT / "contracts" / "asyncapi.json").read_text()
    assert asyncapi == documents.as_text(documents.asyncapi()), "run `make contracts`"
    assert (ROOT / "docs" / "events.md").read_text() == documents.events_page(), (
        "run `make contracts`"
    )


def test_every_event_has_its_own_topic_and_both_ends():
    names = [event.topic.name for event in catalogue.EVENTS]
    assert len(set(names)) == len(names)
    assert set(PARTIES) == set(catalogue.EVENTS)


def test_consumers_are_those_that_subscribe():
    listed = {
        (service, event.__name__)
        for event, parties in PARTIES.items()
        for service in parties.consumers
    }
    for app in sorted(ROOT.glob("services/*/src/gyral/*/app.py")):
        for name in EVENT.findall(app.read_text()):
            assert (app.parent.name, name) in listed
