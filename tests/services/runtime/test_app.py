import hashlib
import json
import secrets
import socket
import tempfile
from contextlib import contextmanager
from pathlib import Path

import httpx
import onnx
import pytest
from onnx import TensorProto

from gyral.contracts.names import BlobRef
from gyral.kit.frames import Batch, FrameReader, Kind, Rows, batch_payload, packed
from gyral.testkit.processes import ServiceProcess, free_port

from .conftest import ROWS

pytestmark = pytest.mark.live
KEY = secrets.token_hex(16)
HEADERS = {"authorization": f"Bearer {KEY}"}


@pytest.fixture
def runtime(stack, blobs):
    with started(stack, blobs) as process:
        yield process


@contextmanager
def started(stack, blobs, **more):
    """Run a runtime with settings of its own."""
    s3 = stack.s3(blobs.bucket)
    with tempfile.TemporaryDirectory(prefix="rt-") as folder:
        env = {
            "STATE_DIR": f"{folder}/state",
            "RUNTIME_LISTEN": f"unix:{folder}/r.sock",
            "SERVICE_KEY": KEY,
            "S3_ENDPOINT": s3.s3_endpoint,
            "S3_ACCESS_KEY": s3.s3_access_key,
            "S3_SECRET_KEY": s3.s3_secret_key.get_secret_value(),
            "S3_BUCKET": s3.s3_bucket,
            **more,
        }
        process = ServiceProcess("gyral.runtime", env, Path(folder, "log"))
        process.start()
        try:
            yield process
        finally:
            process.stop()


@pytest.fixture
async def refs(blobs, files):
    return {
        part: await blobs.put_bytes(f"m/{part}", getattr(files, part))
        for part in ("onnx", "manifest", "golden")
    }


def post(runtime, path, body=None):
    url = f"{runtime.url}/v2/repository{path}"
    return httpx.post(url, json=body or {}, headers=HEADERS, timeout=90)


def load(runtime, refs, slot="m@1"):
    body = {part: ref.model_dump() for part, ref in refs.items()}
    return post(runtime, f"/models/{slot}/load", body)


def states(runtime):
    return {row["name"]: row["state"] for row in post(runtime, "/index").json()}


def ask(runtime, sha256, slot="m@1", **columns):
    """Return kind and payload of the runtime's answer to one batch, over its real socket."""
    cells: list[bytes | list[str | bool | None]] = [list(each) for each in columns.values()]
    batch = Batch(slot, sha256, tuple(columns), [Rows(len(cells[0]), cells)])
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(runtime.env["RUNTIME_LISTEN"].removeprefix("unix:"))
        connection.sendall(packed(7, Kind.BATCH, batch_payload(batch)))
        reader = FrameReader()
        while data := connection.recv(1 << 16):
            for frame in reader.feed(data):
                assert frame.batch_id == 7
                return frame.kind, frame.payload
    raise AssertionError("the runtime hung up")


def test_a_loaded_version_answers_until_it_is_unloaded(runtime, refs, files):
    answer = load(runtime, refs)
    assert answer.status_code == 200, answer.text
    assert states(runtime) == {"m@1": "READY"}
    ready = httpx.get(f"{runtime.url}/v2/models/m@1/ready", headers=HEADERS)
    assert ready.json() == {"name": "m@1", "ready": True}
    columns = {"x": [True], "kind": ["b"], "on": [True]}
    kind, payload = ask(runtime, files.sha256, **columns)
    assert (kind, len(payload)) == (Kind.PROBABILITIES, 8)
    assert load(runtime, refs).status_code == 200
    assert post(runtime, "/models/m@1/unload").status_code == 200
    assert states(runtime) == {}
    assert ask(runtime, files.sha256, **columns)[0] is Kind.NOT_LOADED


def test_a_batch_the_model_cannot_answer_says_why(runtime, refs, files):
    load(runtime, refs)
    kind, payload = ask(runtime, files.sha256, x=["text"], kind=["b"], on=[True])
    assert kind is Kind.FAILED
    assert payload.startswith(b"x: expected numbers")


def test_bytes_that_are_no_frame_end_the_connection_and_nothing_else(runtime, refs, files):
    load(runtime, refs)
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(30)
        connection.connect(runtime.env["RUNTIME_LISTEN"].removeprefix("unix:"))
        connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert connection.recv(1) == b""
    assert ask(runtime, files.sha256, x=[True], kind=["b"], on=[True])[0] is Kind.PROBABILITIES


async def test_bytes_of_another_digest_are_refused(runtime, refs, blobs):
    wrong = refs["onnx"].model_copy(update={"sha256": "0" * 64})
    answer = load(runtime, {**refs, "onnx": wrong})
    assert answer.status_code == 422, answer.text
    assert "sha256" in answer.json()["error"]["message"]
    assert states(runtime) == {"m@1": "UNAVAILABLE"}


async def test_a_manifest_of_another_model_is_refused(runtime, refs, blobs, logistic):
    other = logistic.__class__(logistic.weights, bias=9.0, categories=logistic.categories)
    manifest = await blobs.put_bytes("other", other.files(ROWS).manifest)
    answer = load(runtime, {**refs, "manifest": manifest})
    assert (answer.status_code, "as of model.onnx" in answer.text) == (422, True)


async def test_other_golden_answers_are_refused(runtime, refs, blobs, files):
    golden = json.loads(files.golden)
    golden["probabilities"][0] = 0.5
    wrong = await blobs.put_bytes("golden", json.dumps(golden).encode())
    answer = load(runtime, {**refs, "golden": wrong})
    assert (answer.status_code, "golden row 0" in answer.text) == (422, True)


async def test_external_data_are_refused(runtime, refs, blobs, files):
    model = onnx.load_model_from_string(files.onnx)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", "/etc/hostname"
    wrong = await blobs.put_bytes("external", model.SerializeToString())
    answer = load(runtime, {**refs, "onnx": wrong})
    assert (answer.status_code, "external data" in answer.text) == (422, True)


def test_a_file_the_store_does_not_have_is_refused(runtime, refs):
    absent = BlobRef(key="absent", sha256=hashlib.sha256(b"").hexdigest(), size_bytes=0)
    assert load(runtime, {**refs, "golden": absent}).status_code == 422


def test_nobody_without_the_service_key_gets_in(runtime, refs):
    url = f"{runtime.url}/v2/repository/index"
    assert httpx.post(url).status_code == 401
    assert httpx.post(url, headers={"authorization": "Bearer other"}).status_code == 401


def test_a_killed_runtime_comes_back_with_its_versions_though_the_store_is_away(
    runtime, refs, files
):
    load(runtime, refs)
    runtime.kill()
    runtime.env = {**runtime.env, "S3_ENDPOINT": f"http://127.0.0.1:{free_port()}"}
    runtime.start()
    assert states(runtime) == {"m@1": "READY"}
    assert ask(runtime, files.sha256, x=[True], kind=["b"], on=[True])[0] is Kind.PROBABILITIES


def test_a_cache_that_was_tampered_with_does_not_answer_after_a_restart(runtime, refs, files):
    load(runtime, refs)
    runtime.kill()
    Path(runtime.env["STATE_DIR"], "files", refs["onnx"].sha256).write_bytes(b"evil")
    runtime.start()
    assert states(runtime) == {"m@1": "UNAVAILABLE"}
    assert load(runtime, refs).status_code == 200  # fetched anew
    assert states(runtime) == {"m@1": "READY"}


def test_more_versions_answer_than_fit_into_memory(stack, blobs, refs, files):
    """The budget holds three of them, whatever is asked in which order."""
    asked = {"x": [True], "kind": ["b"], "on": [True]}
    with started(stack, blobs, RUNTIME_MEMORY_BYTES=str(1 << 20)) as runtime:
        slots = [f"m@{number}" for number in range(1, 7)]
        for slot in slots:
            assert load(runtime, refs, slot).status_code == 200
        answers = {ask(runtime, files.sha256, slot, **asked) for slot in [*slots, *slots]}
        assert len(answers) == 1
        assert answers.pop()[0] is Kind.PROBABILITIES
        # One that sleeps is found damaged when it is woken, and can be loaded anew.
        Path(runtime.env["STATE_DIR"], "files", refs["onnx"].sha256).write_bytes(b"evil")
        kind, why = ask(runtime, files.sha256, "m@1", **asked)
        assert (kind, b"found them damaged" in why) == (Kind.NOT_LOADED, True)
        assert states(runtime)["m@1"] == "UNAVAILABLE"
        assert ask(runtime, files.sha256, "m@6", **asked)[0] is Kind.PROBABILITIES
        assert load(runtime, refs, "m@1").status_code == 200
        assert ask(runtime, files.sha256, "m@1", **asked)[0] is Kind.PROBABILITIES
