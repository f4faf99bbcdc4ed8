import json

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gyral.contracts.inference import Role

from .conftest import INPUTS, ROWS, a_version, infer_body, probabilities

pytestmark = pytest.mark.live


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
