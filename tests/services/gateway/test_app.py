import asyncio
import json
import re
import threading
import time
from pathlib import Path

import httpx
import pytest

from gyral.contracts.inference import Role
from gyral.kit.telemetry import nameless
from gyral.testkit.processes import free_port
from gyral.testkit.waiting import until

from .conftest import ROWS, a_version, infer_body, probabilities

pytestmark = pytest.mark.live
ROOT = Path(__file__).parents[3]


def test_a_sticky_key_keeps_its_version_and_a_named_version_is_obeyed(served):
    served.follow(v1=50, v2=50)
    try:
        chosen = {
            key: {
                served.infer(infer_body(ROWS), headers={"x-sticky-key": key}).json()[
                    "model_version"
                ]
                for _ in range(3)
            }
            for key in map(str, range(12))
        }
        assert all(len(versions) == 1 for versions in chosen.values())
        assert set.union(*chosen.values()) == {"1", "2"}
        named = served.infer(infer_body(ROWS), path="/versions/2")
        expected = [a_version(2).probability(row) for row in ROWS]
        assert probabilities(named) == pytest.approx(expected, abs=1e-6)
        assert served.infer(infer_body(ROWS), path="/versions/3").status_code == 404
    finally:
        served.follow(v1=100)


def test_a_model_on_an_event_clock_refuses_rows_without_event_time(served):
    served.follow(v1=100, event_clock=True)
    try:
        refused = served.infer(infer_body(ROWS))
        assert (refused.status_code, "event_time" in refused.text) == (400, True)
        half = served.infer(infer_body(ROWS, event_time=[1, None, 3]))
        assert (half.status_code, "event_time" in half.text) == (400, True)
        assert served.infer(infer_body(ROWS, event_time=[1, 2, 3])).status_code == 200
    finally:
        served.follow(v1=100)


def test_a_shadow_answers_nobody_and_lies_before_a_later_marker_in_every_partition(served):
    served.follow(v1=100, v2="shadow", v9="shadow")
    try:
        asked = [served.infer(infer_body(ROWS)) for _ in range(5)]
        ids = {answer.headers["x-gyral-request-id"] for answer in asked}
        until = "2021-01-01T00:00:00Z"
        partitions = served.logged(until)
    finally:
        served.follow(v1=100)
    seen = {}
    for events in partitions:
        for event in events[: events.index(until)]:
            if not isinstance(event, str) and event.request_id in ids:
                seen[event.request_id, event.version, event.role] = event
    for request_id in ids:
        assert seen[request_id, 1, Role.LIVE].error is None
        shadow = seen[request_id, 2, Role.SHADOW]
        expected = [a_version(2).probability(row) for row in ROWS]
        assert list(shadow.probabilities) == pytest.approx(expected, abs=1e-6)
        lost = seen[request_id, 9, Role.SHADOW]  # the runtime holds no version 9
        # Which one it says depends on whether the runtime got round to it before the deadline.
        whys = ("expected sha256", "the runtime did not answer in time", "the runtime is away")
        assert lost.probabilities == (None,) * 3
        assert any(why in lost.error for why in whys), lost.error
    assert {answer.json()["model_version"] for answer in asked} == {"1"}


class Callers:
    """Threads that ask without pause and keep what they were told."""

    def __init__(self, served, count=4):
        self.served = served
        self.statuses = []
        self.answered = {}
        self._stop = threading.Event()
        self._more = threading.Condition()
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def until(self, more):
        """Return once so many more answers have arrived."""
        wanted = len(self.answered) + more
        with self._more:
            arrived = self._more.wait_for(lambda: len(self.answered) >= wanted, timeout=60)
        assert arrived, self.served.gateway.tail()

    def _ask(self):
        body = infer_body(ROWS)
        while not self._stop.is_set():
            try:
                answer = self.served.infer(body)
            except httpx.TransportError:
                continue
            self.statuses.append(answer.status_code)
            if answer.status_code == 200:
                with self._more:
                    self.answered[answer.headers["x-gyral-request-id"]] = probabilities(answer)
                    self._more.notify_all()


def test_a_killed_runtime_costs_no_request(served):
    with Callers(served) as callers:
        for _ in range(2):
            callers.until(50)
            served.runtime.kill()
            served.runtime.start()
        callers.until(50)
    assert set(callers.statuses) == {200}


def test_every_answer_is_logged_once_although_the_gateway_is_killed(served):
    with Callers(served) as callers:
        for _ in range(3):
            callers.until(100)
            served.gateway.kill()
            served.gateway.start(health="/v2/health/live")
        callers.until(100)
    assert set(callers.statuses) <= {200, 503}
    logged = {
        event.request_id: event
        for event in served.predictions("2022-01-01T00:00:00Z")
        if event.role is Role.LIVE
    }
    missing = callers.answered.keys() - logged.keys()
    assert not missing
    assert all(
        list(logged[request_id].probabilities) == said
        for request_id, said in callers.answered.items()
    )


def test_without_kafka_it_starts_from_what_it_last_knew_and_answers(served):
    lone = served.another_gateway("alone", f"127.0.0.1:{free_port()}")
    state = served.folder / "alone"
    state.mkdir()
    for name in ("routes", "keys"):
        (state / f"{name}.jsonl").write_bytes(
            (served.folder / "gateway" / f"{name}.jsonl").read_bytes()
        )
    lone.start(health="/v2/health/live")
    try:
        deadline = time.monotonic() + 30
        answer = served.infer(infer_body(ROWS), gateway=lone)
        while answer.status_code == 503 and time.monotonic() < deadline:
            answer = served.infer(infer_body(ROWS), gateway=lone)
        assert answer.status_code == 200, answer.text
        request_id = answer.headers["x-gyral-request-id"]
        kept = b"".join(path.read_bytes() for path in (state / "journal").glob("*.journal"))
        assert request_id.encode() in kept
    finally:
        lone.kill()
    # The next process, with Kafka back, says what the killed one could not.
    heir = served.another_gateway("alone", served.stack.kafka_brokers)
    heir.start(health="/v2/health/live")
    try:
        before, served.gateway = served.gateway, heir
        assert request_id in {
            event.request_id for event in served.predictions("2023-01-01T00:00:00Z")
        }
    finally:
        served.gateway = before
        heir.stop()


def test_another_live_version_stands_in_for_one_that_is_not_there(served):
    hasty = served.another_gateway(
        "hasty", served.stack.kafka_brokers, GATEWAY_REQUEST_TIMEOUT_S="0.3"
    )
    served.follow(v1=1, v9=99)
    hasty.start(health="/v2/health/live")
    try:
        served.gateway, usual = hasty, served.gateway
        answer = served.infer(infer_body(ROWS), headers={"x-sticky-key": "a"})
        while "starting" in answer.text:
            answer = served.infer(infer_body(ROWS), headers={"x-sticky-key": "a"})
        assert (answer.status_code, answer.json()["model_version"]) == (200, "1"), answer.text
        request_id = answer.headers["x-gyral-request-id"]
        found = {
            (event.version, event.role, event.error is None)
            for event in served.predictions("2024-01-01T00:00:00Z")
            if event.request_id == request_id
        }
        assert found == {(1, Role.LIVE, True), (9, Role.SHADOW, False)}
        named = served.infer(infer_body(ROWS), path="/versions/9")
        assert (named.status_code, named.headers["retry-after"]) == (503, "1")
    finally:
        served.gateway = usual
        hasty.stop()
        served.follow(v1=100)


def test_a_full_journal_refuses_before_anything_is_computed(served):
    full = served.another_gateway(
        "full",
        f"127.0.0.1:{free_port()}",
        GATEWAY_JOURNAL_MAX_BYTES=str(1 << 20),
        GATEWAY_JOURNAL_SEGMENT_BYTES=str(1 << 16),
    )
    state = served.folder / "full"
    state.mkdir()
    for name in ("routes", "keys"):
        (state / f"{name}.jsonl").write_bytes(
            (served.folder / "gateway" / f"{name}.jsonl").read_bytes()
        )
    full.start(health="/v2/health/live")
    try:
        body = infer_body((ROWS * 86)[:256])
        deadline = time.monotonic() + 60
        answer = served.infer(body, gateway=full)
        while "Kafka" not in answer.text:
            assert time.monotonic() < deadline, full.tail()
            answer = served.infer(body, gateway=full)
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert "Kafka" in answer.json()["error"]
    finally:
        full.kill()


def test_many_callers_at_once_are_answered_or_told_to_come_back(served):
    async def ask():
        limits = httpx.Limits(max_connections=300)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            url = f"{served.gateway.url}/v2/models/{served.model}/infer"
            body = json.dumps(infer_body(ROWS)).encode()
            return await asyncio.gather(
                *(client.post(url, content=body, headers=served.headers) for _ in range(300))
            )

    statuses = [answer.status_code for answer in asyncio.run(ask())]
    assert set(statuses) <= {200, 429}


async def test_the_metrics_tell_what_an_autoscaler_in_a_cluster_goes_by(served):
    """infra/kubernetes/prometheus-adapter.yaml makes its metric of these."""
    adapter = (ROOT / "infra" / "kubernetes" / "prometheus-adapter.yaml").read_text()
    series = set(re.findall(r"gyral_gateway_\w+", adapter))
    assert len(series) == 2
    assert served.infer(infer_body(ROWS)).status_code == 200

    async def told():
        async with httpx.AsyncClient() as client:
            lines = (await client.get(f"{served.gateway.url}/metrics")).text.splitlines()
        label = f'model_sha256="{nameless(served.model)}"'
        shown = {line.partition("{")[0] for line in lines if label in line}
        assert not any(served.model in line for line in lines)
        return series <= shown

    await until(told)
