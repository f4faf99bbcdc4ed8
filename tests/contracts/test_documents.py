"""What is generated is committed and fresh, and says what the services really do."""

import ast
import asyncio
import inspect
import re
from pathlib import Path

import pytest

from gyral.contracts import catalogue, data, documents
from gyral.contracts.parties import PARTIES
from gyral.kit.bus import Bus
from gyral.kit.dataplane import DataPlane
from gyral.kit.projection import Projection
from gyral.kit.tailing import Tail
from gyral.testkit import openapi

ROOT = Path(__file__).parents[2]
WRITTEN = {
    ("ingestion", "RecordSubmitted"),
    ("validation", "LabelsAccepted"),
    ("gateway", "PredictionLogged"),
}
"""What is written as bytes, column by column, and never made as an event: too much of it."""


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


@pytest.mark.parametrize("service", openapi.SERVICES)
def test_a_service_consumes_what_is_listed_and_nothing_else(service, tmp_path):
    assert asyncio.run(consumed(service, tmp_path)) == listed(service, "consumers")


@pytest.mark.parametrize("service", openapi.SERVICES)
def test_a_service_produces_what_is_listed_and_nothing_else(service):
    written = {name for by, name in WRITTEN if by == service}
    assert made(service) | written == listed(service, "producers")


def test_who_sends_and_receives_an_event_is_said_in_one_place():
    docs = {event.__name__: inspect.getdoc(event) or "" for event in catalogue.EVENTS}
    assert [
        name for name, said in docs.items() if re.search("(?i)producer|consumer", said)
    ] == []


def listed(service, end):
    """Return the events at one of whose ends a service is said to be."""
    return {event.__name__ for event, ends in PARTIES.items() if service in getattr(ends, end)}


async def consumed(service, folder):
    """Return the events whose topics a service's assembled parts subscribe to."""
    topics: set[str] = set()
    for part in (await openapi.assembled(service, folder)).parts:
        match part:
            case Bus():
                topics |= set(part._reactions)  # noqa: SLF001 - the kit tells nobody
            case Projection() | Tail():
                topics.add(part.topic)
            case DataPlane():
                # Markers come in line, on whatever topic a data plane reads.
                topics |= {*part._topics, data.WatermarkAdvanced.topic.name}  # noqa: SLF001
    return {event.__name__ for event in catalogue.EVENTS if event.topic.name in topics}


def made(service):
    """Return the events that a service's code makes."""
    names = {event.__name__ for event in catalogue.EVENTS}
    calls = {
        node.func.attr if isinstance(node.func, ast.Attribute) else node.func.id
        for path in ROOT.glob(f"services/*/src/gyral/{service}/**/*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute | ast.Name)
    }
    return names & calls
