"""What schemathesis makes of an OpenAPI document, sent to the application it describes."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import APIOperation, Case, GenerationMode
from schemathesis.core.result import Ok

from gyral.testkit.openapi import ROOT

EXAMPLES = 30
"""Requests to an operation: a few seconds a service."""
LONGEST_WAIT_S = "0.01"
"""Longer waits are asked for, and cut: they would only pass the time."""
SEED = 7
Answers = dict[str, Counter[int]]
"""By operation, how often each status was answered."""
# The application's thread draws its back-offs' jitter while Hypothesis draws beside it.
random_elsewhere = pytest.mark.filterwarnings(
    "ignore:Do not use the `random` module:hypothesis.errors.HypothesisDeprecationWarning"
)


def document(service: str) -> dict[str, Any]:
    """Return a committed document, without what tells of the process and may say 503."""
    path = ROOT / "contracts" / "openapi" / f"{service}.json"
    found: dict[str, Any] = json.loads(path.read_text())
    found["paths"] = {
        path: operations
        for path, operations in found["paths"].items()
        if not path.startswith(("/health/", "/v2/health/"))
    }
    return found


def expect_all_asked(answers: Answers) -> None:
    """Fail where an operation was not reached, or nothing at all succeeded."""
    for operation, counted in answers.items():
        assert counted.total(), operation
        assert not counted.keys() & {401, 403}, (operation, counted)
    assert any(status < 300 for counted in answers.values() for status in counted)


def register_forms() -> None:
    """Tell schemathesis how to write the forms of rows that it does not know."""
    schemathesis.serializer.alias("application/x-ndjson", "text/plain")
    for name in ("stream", "parquet"):
        subtype = f"arrow.{name}" if name == "stream" else name
        schemathesis.serializer.alias(
            f"application/vnd.apache.{subtype}", "application/octet-stream"
        )


async def fuzz(
    document: Mapping[str, object], client: httpx.AsyncClient, known: Mapping[str, str]
) -> Answers:
    """Send every operation what it describes and what it does not, the same in every run.

    Args:
        document: an OpenAPI document.
        client: leads to the application.
        known: path parameters by name, of something that exists; most requests have them.

    Raises:
        AssertionError: an answer is a 5xx, or a 4xx without a reason; it shows the request.
    """
    loop = asyncio.get_running_loop()
    answers: Answers = {}

    def ask(request: httpx.Request) -> httpx.Response:
        return asyncio.run_coroutine_threadsafe(client.send(request), loop).result()

    for found in schemathesis.openapi.from_dict(dict(document)).get_all_operations():
        assert isinstance(found, Ok), found
        one = _Operation(found.ok(), client, known, ask)
        # Hypothesis calls and waits: it has a thread, beside the loop of the application.
        answers[one.operation.label] = await asyncio.to_thread(one.answers)
    return answers


@dataclass(frozen=True, slots=True)
class _Operation:
    operation: APIOperation[Any, Any, Any, Any]
    client: httpx.AsyncClient
    known: Mapping[str, str]
    ask: Callable[[httpx.Request], httpx.Response]

    def answers(self) -> Counter[int]:
        counted: Counter[int] = Counter()

        @seed(SEED)
        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(self._cases(), st.sampled_from([self.known, self.known, self.known, {}]))
        def each(case: Case[Any], where: Mapping[str, str]) -> None:
            case.path_parameters.update(
                {name: where[name] for name in case.path_parameters if name in where}
            )
            request = self._request(case)
            answer = self.ask(request)
            counted[answer.status_code] += 1
            _judge(request, answer)

        each()
        return counted

    def _cases(self) -> st.SearchStrategy[Case[Any]]:
        """Draw requests that the document allows, and such as it does not."""
        modes = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
        return st.one_of(*(self.operation.as_strategy(mode) for mode in modes))

    def _request(self, case: Case[Any]) -> httpx.Request:
        asked = case.as_transport_kwargs(base_url=str(self.client.base_url))
        if "wait_s" in (asked["params"] or {}) and _is_number(asked["params"]["wait_s"]):
            asked["params"]["wait_s"] = LONGEST_WAIT_S
        made = requests.Request(**asked).prepare()
        body = made.body.encode() if isinstance(made.body, str) else made.body
        assert body is None or isinstance(body, bytes), body
        # Who asks may do everything: what is made up as a key would end at the door.
        said = {
            name: value
            for name, value in made.headers.items()
            if name not in self.client.headers
        }
        headers = [
            *self.client.headers.raw,
            *((name.encode("latin-1"), _latin(value)) for name, value in said.items()),
        ]
        return httpx.Request(
            made.method or "GET", made.url or "", headers=headers, content=body
        )


def _judge(request: httpx.Request, answer: httpx.Response) -> None:
    shown = f"{request.method} {request.url} {request.content[:500]!r}: {answer.status_code}"
    assert not answer.is_server_error, f"{shown} {answer.text[:500]}"
    if answer.is_client_error and request.method != "HEAD":
        error = answer.json()["error"]
        # Open Inference says it in one text; everywhere else it has a code and fields.
        assert error if isinstance(error, str) else error["message"], shown


def _latin(value: str | bytes) -> bytes:
    return value.encode("latin-1") if isinstance(value, str) else value


def _is_number(text: object) -> bool:
    try:
        return float(str(text)) > float(LONGEST_WAIT_S)
    except ValueError:
        return False
