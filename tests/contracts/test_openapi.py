"""The HTTP documents are committed, fresh, and say who may call what."""

import json
from pathlib import Path

import pytest

from gyral.gateway.api.datatypes import KINDS
from gyral.testkit import inference_protocol, openapi

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "contracts" / "openapi"
PUBLIC = {"/health/live", "/health/ready", "/metrics", "/v2", "/v2/health/live"}
PUBLIC |= {"/v2/health/ready"}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return dict(openapi.documents(tmp_path_factory.mktemp("openapi")))


@pytest.mark.parametrize("service", openapi.SERVICES)
def test_a_services_document_is_fresh(made, service):
    committed = (FOLDER / f"{service}.json").read_text()
    assert committed == made[service], "run `make contracts`"


def test_every_service_has_a_document_and_no_other_file_is_there():
    assert {path.stem for path in FOLDER.glob("*")} == set(openapi.SERVICES)


@pytest.mark.parametrize("service", openapi.SERVICES)
def test_only_health_and_metrics_are_open_to_all(service):
    document = json.loads((FOLDER / f"{service}.json").read_text())
    assert document["security"] == [{"key": []}]
    open_to_all = {
        path
        for path, operations in document["paths"].items()
        for operation in operations.values()
        if isinstance(operation, dict) and operation.get("security") == []
    }
    assert open_to_all <= PUBLIC


def test_the_gateway_documents_the_inference_protocol():
    paths = json.loads((FOLDER / "gateway.json").read_text())["paths"]
    infer = paths["/v2/models/{model}/infer"]["post"]
    assert infer["requestBody"]["content"]["application/json"]["schema"]["required"] == [
        "inputs"
    ]
    assert {"200", "400", "401", "429", "503"} <= set(infer["responses"])
    assert {*inference_protocol.DATATYPES} == KINDS.keys()
    assert "/v1/models/{model}:predict" in paths


def test_a_body_that_a_route_reads_within_limits_is_described():
    document = json.loads((FOLDER / "registry.json").read_text())
    body = document["paths"]["/v1/models/{name}/retrain"]["post"]["requestBody"]
    name = body["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    assert "reason" in document["components"]["schemas"][name]["properties"]


def _views(node):
    """Yield every schema of an answer's object that lies in a document."""
    if isinstance(node, dict):
        if isinstance(node.get("properties"), dict) and node.get("title", "").endswith("View"):
            yield node
        for each in node.values():
            yield from _views(each)


@pytest.mark.parametrize("service", openapi.SERVICES)
def test_every_time_in_an_answer_is_a_time_and_so_written_in_one_way(service):
    document = json.loads((FOLDER / f"{service}.json").read_text())
    for view in _views(document):
        for name, field in view["properties"].items():
            if name in ("as_of", "watermark") or name.endswith(("_at", "_since", "_until")):
                forms = [
                    each for each in field.get("anyOf", [field]) if each["type"] == "string"
                ]
                assert all(each.get("format") == "date-time" for each in forms), (view, name)
