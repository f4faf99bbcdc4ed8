"""Clients that others wrote, and the examples of docs/asking.md, against a real gateway."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from tests.docs import pages
from tests.docs.pages import ROOT

from .conftest import INPUTS, ROWS, a_version, infer_body, probabilities

pytestmark = pytest.mark.live
KNOWN = [{**row, "carrier": row["carrier"] or "never seen"} for row in ROWS]
EXPECTED = [a_version(1).probability(row) for row in KNOWN]
KINDS = {
    "FP64": np.float64,
    "FP32": np.float32,
    "INT64": np.int64,
    "BOOL": np.bool_,
    "BYTES": np.object_,
}


@pytest.fixture(params=["http", "grpc"])
def client(request, served):
    """(the module, a client of it, where it can say so)."""
    if request.param == "http":
        module, address = tritonclient.http, served.gateway.url.removeprefix("http://")
    else:
        module, address = tritonclient.grpc, f"127.0.0.1:{served.rpc_port}"
    client = module.InferenceServerClient(address)
    yield module, client
    client.close()


def tensors(module, rows=KNOWN, **binary):
    made = []
    for each in INPUTS:
        cells = [np.nan if row[each.name] is None else row[each.name] for row in rows]
        tensor = module.InferInput(each.name, [len(rows)], each.datatype.value)
        tensor.set_data_from_numpy(np.array(cells, dtype=KINDS[each.datatype]), **binary)
        made.append(tensor)
    return made


def test_tritonclient_asks_in_binary_and_gets_what_json_gets(served, client):
    module, asking = client
    headers = served.headers
    assert asking.is_server_live()
    assert asking.is_model_ready(served.model, headers=headers)
    answer = asking.infer(served.model, tensors(module), request_id="a-7", headers=headers)
    assert answer.as_numpy("probability") == pytest.approx(EXPECTED, abs=1e-6)
    assert len(set(answer.as_numpy("prediction_id"))) == len(KNOWN)
    said = answer.get_response()
    assert (said["id"] if isinstance(said, dict) else said.id) == "a-7"
    as_json = served.infer(infer_body(KNOWN))
    assert answer.as_numpy("probability").tolist() == probabilities(as_json)


def test_tritonclient_chooses_outputs_and_versions(served, client):
    module, asking = client
    [one] = [module.InferRequestedOutput("probability")]
    answer = asking.infer(
        served.model, tensors(module), model_version="1", outputs=[one], headers=served.headers
    )
    assert answer.as_numpy("probability") == pytest.approx(EXPECTED, abs=1e-6)
    assert answer.as_numpy("prediction_id") is None


def test_tritonclient_sends_json_where_it_is_told_to(served):
    with tritonclient.http.InferenceServerClient(
        served.gateway.url.removeprefix("http://")
    ) as asking:
        rows = [{**row, "distance": row["distance"] or 0.0} for row in KNOWN]
        inputs = tensors(tritonclient.http, rows, binary_data=False)
        output = tritonclient.http.InferRequestedOutput("probability", binary_data=False)
        answer = asking.infer(served.model, inputs, outputs=[output], headers=served.headers)
    expected = [a_version(1).probability(row) for row in rows]
    assert answer.as_numpy("probability") == pytest.approx(expected, abs=1e-6)


def test_tritonclient_is_told_what_is_wrong_in_its_own_way(served, client):
    module, asking = client
    for more in ({"priority": 1}, {"timeout": 1000}, {"sequence_id": 4}):
        with pytest.raises(module.InferenceServerException, match="expected no parameter but"):
            asking.infer(served.model, tensors(module), headers=served.headers, **more)
    with pytest.raises(module.InferenceServerException, match="Authorization: Bearer"):
        asking.infer(served.model, tensors(module))
    with pytest.raises(module.InferenceServerException, match="expected a model with a route"):
        asking.infer("nobody", tensors(module), headers=served.headers)


# As PandasCodec.encode_request of mlserver 1.7.1 writes it. Its dependencies leave no version
# that goes with ours, so what it wrote stands here, byte for byte.
PANDAS = (
    b'{"parameters":{"content_type":"pd"},"inputs":[{"name":"distance","shape":[3,1],"datatype":'
    b'"FP64","data":[0.5,null,-2.0]},{"name":"hour","shape":[3,1],"datatype":"INT64","data":'
    b'[3,-1,0]},{"name":"carrier","shape":[3,1],"datatype":"BYTES","parameters":{"content_type":'
    b'"str"},"data":["AA","never seen","UA"]},{"name":"wet","shape":[3,1],"datatype":"BOOL",'
    b'"data":[true,false,true]},{"name":"wind","shape":[3,1],"datatype":"FP32","data":'
    b"[0.25,-1.5,0.0]}]}"
)


def test_what_mlservers_codec_writes_is_answered(served):
    rows = [dict(row) for row in ROWS]
    rows[2]["carrier"] = "UA"
    expected = [a_version(1).probability(row) for row in rows]
    assert probabilities(served.infer(PANDAS)) == pytest.approx(expected, abs=1e-6)


def run(served, command, given):
    done = subprocess.run(
        ["/bin/bash", "-c", command.text.replace(".venv/bin/python", sys.executable)],
        cwd=ROOT,
        env={
            **os.environ,
            "GYRAL_API_KEY": served.key,
            "MODEL": served.model,
            "GATEWAY_PORT": str(served.gateway.port),
            "GATEWAY_GRPC_PORT": str(served.rpc_port),
        },
        input=given,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def test_each_command_of_the_page_works(served):
    lines = "".join(f"{json.dumps(row)}\n" for row in KNOWN)
    asked = {
        "plain.sh": (json.dumps({"instances": KNOWN}), lambda said: said["predictions"]),
        "tensors.sh": (json.dumps(infer_body(KNOWN)), lambda said: said["outputs"][0]["data"]),
        "binary.py": (lines, None),
        "rpc.py": (lines, None),
    }
    # Those of keys are typed by tests/docs/test_keys.py.
    commands = [
        command
        for command in pages.commands(ROOT / "docs" / "asking.md")
        if not command.text.startswith(".venv/bin/gyral key ")
        and not command.text.startswith(".venv/bin/gyral get keys")
    ]
    assert len(commands) == len(asked)
    for command in commands:
        [given, chances] = next(asked[name] for name in asked if f"/{name} " in command.text)
        said = run(served, command, given)
        found = (
            [float(line.split()[0]) for line in said.splitlines()]
            if chances is None
            else chances(json.loads(said))
        )
        assert found == pytest.approx(EXPECTED, abs=1e-6), command
