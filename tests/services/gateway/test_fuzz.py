"""Whatever the documents of gateway and runtime lead to is answered, and never 5xx."""

import httpx
import pytest

from tests.contracts.fuzzing import (
    document,
    expect_all_asked,
    fuzz,
    random_elsewhere,
    register_forms,
)

from .conftest import INPUTS

pytestmark = [random_elsewhere, pytest.mark.live, pytest.mark.timeout(300)]


def of_these_inputs(told):
    """Narrow a document's request to tensors that the model under test reads, or nearly."""
    for path, operations in told["paths"].items():
        if not path.endswith("/infer"):
            continue
        content = operations["post"]["requestBody"]["content"]["application/json"]
        tensor = content["schema"]["properties"]["inputs"]["items"]
        content["schema"]["properties"]["inputs"] = {
            "type": "array",
            "minItems": len(INPUTS),
            "maxItems": len(INPUTS) + 1,
            "items": {
                **tensor,
                "properties": {
                    **tensor["properties"],
                    "name": {"enum": [each.name for each in INPUTS]},
                    "shape": {"enum": [[1], [1, 1], [2], [0], [-1], [2**63]]},
                    "data": {"type": "array", "maxItems": 2},
                },
            },
        }
    return told


async def test_the_gateway_answers_whatever_its_document_leads_to(served):
    headers = {"authorization": f"Bearer {served.admin}"}
    known = {"model": served.model, "version": "1"}
    for told in (document("gateway"), of_these_inputs(document("gateway"))):
        async with httpx.AsyncClient(base_url=served.gateway.url, headers=headers) as client:
            answers = await fuzz(told, client, known)
        expect_all_asked(answers)


async def test_the_runtime_answers_whatever_its_document_leads_to(served):
    register_forms()
    headers = {"authorization": f"Bearer {served.service_key}"}
    async with httpx.AsyncClient(base_url=served.runtime.url, headers=headers) as client:
        answers = await fuzz(document("runtime"), client, {"slot": "spare@1"})
    expect_all_asked(answers)
