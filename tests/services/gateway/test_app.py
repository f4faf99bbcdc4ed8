import asyncio
import json
import threading
import time

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gyral.contracts.inference import Role
from gyral.testkit.processes import free_port

from .conftest import INPUTS, ROWS, a_version, infer_body

pytestmark = pytest.mark.live


def probabilities(answer):
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    return outputs["probability"]


def test_an_answer_is_what_the_model_computes_and_is_logged_as_the_contract_says(served):
    body = infer_body(ROWS, id="mine", entity_key=["a", None, "c"], event_time=[1, 2, 3])
    answer = served.infer(body)
    assert answer.status_code == 200, answer.text
    expected = [a_version(1).probability(row) for row in ROWS]
    assert probabilities(answer) == pytest.approx(expected, abs=1e-6)
    request_id = answer.headers["x-gyral-request-id"]
    said = answer.json()
    assert (said["model_name"], said["model_version"], said["id"]) == (
        served.model,
        "1",
        "mine",
    )
    assert said["outputs"][1]["data"] == [f"{request_id}-{row}" for row in range(3)]
    [event] = [
        each
        for each in served.predictions("2020-01-01T00:00:00Z")
        if each.request_id == request_id
    ]
    assert (event.version, event.role, event.epoch) == (1, Role.LIVE, served.epoch)
    assert event.entity_keys == ("a", None, "c")
    assert event.event_times == (1, 2, 3)
    assert list(event.probabilities) == probabilities(answer)
    assert event.features == {
        each.name: tuple(row[each.name] for row in ROWS) for each in INPUTS
    }


def test_columns_of_shape_n_by_one_may_be_nested(served):
    body = infer_body(ROWS)
    for tensor in body["inputs"]:
        tensor["shape"] = [3, 1]
        tensor["data"] = [[cell] for cell in tensor["data"]]
    answer = served.infer(body)
    expected = [a_version(1).probability(row) for row in ROWS]
    assert probabilities(answer) == pytest.approx(expected, abs=1e-6)


def changed(name, **values):
    def change(body):
        [tensor] = [each for each in body["inputs"] if each["name"] == name]
        tensor.update(values)

    return change


def without(name):
    def change(body):
        body["inputs"] = [each for each in body["inputs"] if each["name"] != name]

    return change


def adding(**tensor):
    def change(body):
        body["inputs"].append({"shape": [3], "datatype": "FP64", "data": [1, 2, 3], **tensor})

    return change


@pytest.mark.parametrize(
    ("change", "status", "named"),
    [
        (changed("hour", data=[1, None, 3]), 400, "hour"),
        (changed("hour", data=[1, 2.5, 3]), 400, "hour"),
        (changed("hour", data=[1, 2**63, 3]), 400, "hour"),
        (changed("hour", data=[True, 2, 3]), 400, "hour"),
        (changed("wet", data=[1, 0, 1]), 400, "wet"),
        (changed("wind", data=[1e300, 0, 1]), 400, "wind"),
        (changed("distance", data=["1", 2, 3]), 400, "distance"),
        (changed("distance", data=[1, 2]), 400, "distance"),
        (changed("distance", data=[[1], [2], [3]]), 400, "distance"),
        (changed("distance", shape=[3, 1], data=[[1], [2, 3], [4]]), 400, "distance"),
        (changed("hour", shape=[4]), 400, "hour"),
        (changed("distance", shape=[3, 2]), 400, "distance"),
        (changed("distance", shape=[-3]), 400, "distance"),
        (changed("distance", shape=[]), 400, "distance"),
        (changed("distance", datatype="FP16"), 400, "distance"),
        (changed("carrier", data=["a", "\ud800", "c"]), 400, "JSON"),
        (changed("carrier", data="abc"), 400, "carrier"),
        (without("wind"), 400, "wind"),
        (adding(name="wind"), 400, "wind"),
        (adding(name="nobody"), 400, "nobody"),
        (adding(name="entity_key", datatype="BYTES", data=["", "b", "c"]), 400, "entity_key"),
        (adding(name="entity_key"), 400, "entity_key"),
        (adding(name="event_time", datatype="INT64", data=[-1, 2, 3]), 400, "event_time"),
        (lambda body: body.update(inputs=[]), 400, "inputs"),
        (lambda body: body.update(outputs=[{"name": "logits"}]), 400, "outputs"),
        (lambda body: body.update(id=7), 400, "id"),
    ],
)
def test_a_request_that_cannot_be_answered_says_what_is_wrong_with_it(
    served, change, status, named
):
    body = infer_body(ROWS)
    change(body)
    answer = served.infer(body)
    assert answer.status_code == status, answer.text
    assert named in answer.json()["error"]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"null", 400),
        (b"{}", 400),
        (b'{"inputs": [NaN]}', 400),
        (b"[" * 200_000, 400),
        (b'{"inputs": ' + b"[" * 5000, 400),
        (b'{"inputs": [], "parameters": ' + b'{"a":' * 5000, 400),
        (b"\xff\xfe", 400),
        (b'{"inputs": "' + b"x" * (1 << 20) + b'"}', 413),
    ],
)
def test_a_body_that_is_no_request_is_refused(served, body, status):
    answer = served.infer(body)
    assert answer.status_code == status, answer.text
    assert answer.json()["error"]


def test_too_many_rows_are_refused_and_the_most_allowed_are_answered(served):
    assert served.infer(infer_body(ROWS * 86)).status_code == 400
    assert len(probabilities(served.infer(infer_body((ROWS * 86)[:256])))) == 256


def test_nan_and_infinity_are_refused_wherever_they_stand(served):
    for token in ("NaN", "Infinity", "-Infinity", "1e999"):
        text = json.dumps(infer_body(ROWS)).replace("-2.0", token)
        assert served.infer(text.encode()).status_code == 400


cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**70), 2**70),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=2),
)
tensors = st.fixed_dictionaries(
    {
        "name": st.one_of(
            st.sampled_from([each.name for each in INPUTS] + ["entity_key", "event_time"]),
            st.text(max_size=5),
        ),
        "shape": st.lists(st.integers(-2, 5), max_size=3),
        "datatype": st.sampled_from(["BOOL", "INT64", "FP32", "FP64", "BYTES", "UINT8", ""]),
        "data": st.lists(cells, max_size=4),
    }
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.fixed_dictionaries(
        {"inputs": st.lists(tensors, max_size=6)},
        optional={"id": st.text(max_size=3), "outputs": st.lists(tensors, max_size=2)},
    ),
    st.booleans(),
)
def test_no_request_whatsoever_makes_the_gateway_fail(served, body, whole):
    if whole:  # a good request with one tensor replaced reaches deeper
        names = {tensor["name"] for tensor in body["inputs"]}
        good = [each for each in infer_body(ROWS)["inputs"] if each["name"] not in names]
        body = {**body, "inputs": good + body["inputs"]}
    answer = served.infer(json.dumps(body).encode("utf-8", "surrogatepass"))
    assert answer.status_code < 500, answer.text
    assert answer.status_code == 200 or answer.json()["error"]


def test_who_may_not_ask_is_told_so_before_anything_else(served):
    url = f"{served.gateway.url}/v2/models/{served.model}/infer"
    assert httpx.post(url, content=b"junk").status_code == 401
    reader = {"authorization": f"Bearer {served.reader}"}
    assert httpx.post(url, content=b"junk", headers=reader).status_code == 403
    unknown = f"{served.gateway.url}/v2/models/unknown/infer"
    assert httpx.post(unknown, content=b"junk").status_code == 401
    assert httpx.post(unknown, content=b"junk", headers=served.headers).status_code == 404
    assert httpx.get(url, headers=served.headers).status_code == 405
    assert httpx.get(f"{served.gateway.url}/v2").json()["name"] == "gyral"


def test_the_metadata_tells_a_client_what_to_send(served):
    url = f"{served.gateway.url}/v2/models/{served.model}"
    about = httpx.get(url, headers=served.headers).json()
    assert [port["name"] for port in about["inputs"]] == [
        *(each.name for each in INPUTS),
        "entity_key",
        "event_time",
    ]
    assert httpx.get(f"{url}/ready", headers=served.headers).json()["ready"] is True
    assert httpx.get(f"{url}/versions/9/ready", headers=served.headers).status_code == 404


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
        assert (lost.probabilities, "expected sha256" in lost.error) == ((None,) * 3, True)
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
