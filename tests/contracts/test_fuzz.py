"""Whatever the OpenAPI documents allow, or do not: services say yes or why not, never 5xx."""

from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter

from gyral.contracts.access import AccessKeyChanged, Scope
from gyral.contracts.data import StreamDeclared
from gyral.ingestion.engine.log import RecordLog
from gyral.kit.access import KeyRing
from gyral.kit.health import Health
from gyral.kit.http import Caller, create_api, scope
from gyral.testkit.events import send
from gyral.testkit.keys import an_access_key
from gyral.testkit.projections import MemoryProjection
from gyral.validation.engine.outlet import Outlet
from tests.contracts.fuzzing import (
    document,
    expect_all_asked,
    fuzz,
    random_elsewhere,
    register_forms,
)

STREAM = "fuzzed-rides"
PARTS = {"ingestion": (RecordLog,), "validation": (Outlet,)}
"""What a service's routes need that runs, beside its projections."""
KNOWN = {"stream": STREAM, "name": STREAM}
ROW = {
    "type": "object",
    "required": ["id", "at"],
    "properties": {
        "id": {"type": "string"},
        "at": {"enum": ["2026-01-01T00:00:00Z", "1969-12-31T23:59:59.9Z", "9999-12-31"]},
        "x": {"type": ["number", "null"]},
        "n": {"type": ["integer", "null"]},
    },
}


@pytest.fixture(scope="module", autouse=True)
def forms():
    """Bodies of every form can be written."""
    register_forms()


def declared():
    spec = {
        "apiVersion": "gyral/v1",
        "kind": "Stream",
        "metadata": {"name": STREAM},
        "spec": {
            "key": "id",
            "event_time": "at",
            "fields": {
                "id": {"type": "string"},
                "at": {"type": "timestamp"},
                "x": {"type": "number", "nullable": True},
                "n": {"type": "integer", "nullable": True},
            },
        },
    }
    return StreamDeclared.model_validate({"name": STREAM, "generation": 1, "spec": spec})


@random_elsewhere
@pytest.mark.live
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "service", ["ingestion", "validation", "registry", "trainer", "deployer", "monitor"]
)
async def test_no_request_that_a_document_leads_to_is_answered_5xx(asking, producer, service):
    await send(producer, declared())
    async with asking(service, *PARTS.get(service, ())) as asked:
        answers = await fuzz(document(service), asked.client, KNOWN)
    expect_all_asked(answers)


@random_elsewhere
@pytest.mark.live
@pytest.mark.timeout(300)
async def test_rows_and_markers_of_a_declared_stream_are_taken_or_refused(asking, producer):
    """The document says of rows only that they are objects; here it says which, and plain."""
    told = document("ingestion")
    records = told["paths"]["/v1/streams/{stream}/records"]["post"]
    records["parameters"] = [one for one in records["parameters"] if one["in"] == "path"]
    content = records["requestBody"]["content"]
    records["requestBody"]["content"] = {
        "application/json": {"schema": ROW},
        "application/cloudevents+json": {
            "schema": {"type": "object", "properties": {"data": ROW}, "required": ["data"]}
        },
        "application/cloudevents-batch+json": content["application/cloudevents-batch+json"],
    }
    await send(producer, declared())
    async with asking("ingestion", RecordLog) as asked:
        answers = await fuzz(told, asked.client, KNOWN)
    taken = answers["POST /v1/streams/{stream}/records"]
    assert taken[202], taken
    assert taken[422], taken
    marked = answers["POST /v1/streams/{stream}/watermark"]
    assert marked[202], marked
    assert marked[400], marked


async def test_a_route_that_fails_for_one_request_in_some_is_found():
    keys = MemoryProjection(AccessKeyChanged)
    key, issued = an_access_key(Scope.READ)
    ring = KeyRing(keys)
    await keys.put(issued)
    router = APIRouter()

    @router.get("/v1/sums/{number}")
    async def doubled(number: int, _caller: Annotated[Caller, scope("read")]) -> int:
        return int.from_bytes(number.to_bytes(2, signed=True), signed=True) * 2

    api = create_api("test", [router], keys=ring, health=Health())
    transport = httpx.ASGITransport(api, raise_app_exceptions=False)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(
        transport=transport, base_url="http://test", headers=headers
    ) as client:
        told = api.openapi()
        told["paths"] = {
            path: found for path, found in told["paths"].items() if path.startswith("/v1/sums/")
        }
        with pytest.raises(AssertionError, match=r"/v1/sums/-?\d{5,} .*: 500"):
            await fuzz(told, client, {})
