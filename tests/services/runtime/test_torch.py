"""A version served as torch: what its code may do while it is tried, and how it answers."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from gyral.modelling.archives import packed
from gyral.runtime.domain import Flavour
from gyral.runtime.engine import PredictionError, Predictor, UnusableModelError
from gyral.runtime.engine.trial import try_out
from gyral.runtime.store import Cache
from gyral.testkit.torch_models import ROWS, SOURCE, probability, torch_files

from .control import cached, controlled

pytestmark = pytest.mark.torch
pytest.importorskip("torch")
COLUMNS = {name: [row[name] for row in ROWS] for name in ("x", "y")}
LIMITS = {"memory_bytes": 8 << 30, "timeout_s": 100}
FORWARD = "return torch.sigmoid(self.layer(matrix)).squeeze(1)"

REFUSES = """
import asyncio, sys
from pathlib import Path
from tests.services.runtime.control import controlled

async def refuse(folder):
    async with controlled(folder) as (client, _):
        [row] = (await client.post("/v2/repository/index")).json()
        print(row["state"], "torch" in sys.modules)

asyncio.run(refuse(Path(sys.argv[1])))
"""


def predictor(source=SOURCE):
    files = torch_files(source)
    return Predictor.of(files.manifest, files.weights, files.code)


async def tried(folder, files, **limits):
    folder.mkdir()
    names = {"weights": "model.safetensors", "code": "code.zip"}
    for part in ("weights", "code", "manifest", "golden"):
        name = names.get(part, f"{part}.json")
        (folder / name).write_bytes(getattr(files, part))
    return str(await try_out(folder, **{**LIMITS, **limits}))


def test_a_network_answers_behind_the_same_predictor():
    found = predictor().predict_lists(COLUMNS)
    assert found.tolist() == pytest.approx([probability(row) for row in ROWS], abs=1e-6)
    many = {name: cells * 300 for name, cells in COLUMNS.items()}
    assert predictor().predict_lists(many).tolist() == pytest.approx(found.tolist() * 300)
    assert predictor().predict_lists({"x": [], "y": []}).shape == (0,)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            "return self.layer(matrix).squeeze(1) * float('nan')",
            "row 0: expected a probability",
        ),
        ("return self.layer(matrix).squeeze(1) + 100", "row 0: expected a probability"),
        ("return torch.ones(1)", "expected 2 rows; found shape (1,)"),
        ("return [1 / (len(matrix) - 2)] and torch.ones(1)", "found ZeroDivisionError"),
    ],
)
def test_what_is_no_probability_is_an_error_and_no_answer(answer, said):
    with pytest.raises(PredictionError) as refused:
        predictor(SOURCE.replace(FORWARD, answer)).predict_lists(COLUMNS)
    assert said in str(refused.value)


def test_files_of_both_formats_are_refused(files):
    torch = torch_files()
    with pytest.raises(UnusableModelError, match=r"code\.zip: expected the network's sources"):
        Predictor.of(torch.manifest, torch.weights)
    with pytest.raises(UnusableModelError, match="expected torch, as there is code"):
        Predictor.of(files.manifest, files.onnx, torch.code)


def test_where_torch_is_missing_the_version_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(UnusableModelError, match=r"found no torch; install .*torch\.txt"):
        predictor()


async def test_code_that_fails_while_it_is_tried_is_refused_and_not_quoted(
    tmp_path, monkeypatch
):
    """All at once: each waits for torch to be imported."""
    monkeypatch.setenv("S3_SECRET_KEY", "s3cret")
    left = tmp_path / "left"
    tells = """
import os, sys
print(dict(os.environ), "s3cret", file=sys.stderr)
os.write(2, b"s3cret")
raise ValueError("s3cret" + os.environ.get("S3_SECRET_KEY", "none"))
"""
    says = """
import os
for pipe in range(3, 30):
    try:
        os.write(pipe, b"s3cret\\n")
    except OSError:
        pass
os._exit(3)
"""
    hostile = {
        "nothing": ("", "None"),
        "eats memory": ("x = bytearray(1 << 40)", "found MemoryError"),
        "ends": ("import os\nos._exit(0)", "found 0 (no message)"),
        "crashes": ("import ctypes\nctypes.string_at(0)", f"found {-signal.SIGSEGV}"),
        "tells": (tells, "found ValueError"),
        "says": (says, "a message of its code"),
        "writes": (
            f"import os\nos.write(os.open({str(left)!r}, os.O_CREAT | os.O_WRONLY), b'x')",
            "found OSError",
        ),
    }
    told = await asyncio.gather(
        *(
            tried(tmp_path / name, torch_files(SOURCE + source + "\n"))
            for name, (source, _) in hostile.items()
        )
    )
    for (name, (_, said)), complaint in zip(hostile.items(), told, strict=True):
        assert said in complaint, name
        assert "s3cret" not in complaint, name
        assert str(tmp_path) not in complaint, name
    assert left.read_bytes() == b""


async def test_code_that_never_ends_is_ended_with_all_that_it_started(tmp_path):
    """It tells of itself through a pipe, which has an end once nothing of it lives."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    endless = f"""
import os
told = os.open({str(pipe)!r}, os.O_WRONLY)
os.fork()
os.write(told, b"up")
while True:
    pass
"""
    trial = asyncio.create_task(tried(tmp_path / "v", torch_files(SOURCE + endless)))
    reading = await asyncio.to_thread(os.open, pipe, os.O_RDONLY)
    up = [await asyncio.to_thread(os.read, reading, 2) for _ in range(2)]
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    assert (up, await asyncio.to_thread(os.read, reading, 2)) == ([b"up", b"up"], b"")
    os.close(reading)


async def test_a_runtime_that_serves_onnx_refuses_torch(tmp_path):
    body = body_of(cached(tmp_path, "m@1", torch_files()))
    async with controlled(tmp_path) as (client, _):
        [row] = (await client.post("/v2/repository/index")).json()
        assert (row["state"], "found a version served as torch" in row["reason"]) == (
            "UNAVAILABLE",
            True,
        )
        answer = await client.post("/v2/repository/models/m@2/load", json=body)
        assert answer.status_code == 422
        assert "`serving.runtime: own`" in answer.json()["error"]["message"]


def test_a_runtime_that_refuses_torch_has_not_imported_it(tmp_path):
    """In a process of its own: this one has."""
    cached(tmp_path, "m@1", torch_files())
    refused = subprocess.run(
        [sys.executable, "-c", REFUSES, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "UNAVAILABLE False" in refused.stdout.splitlines()


async def test_a_runtime_of_its_own_is_back_with_its_network(tmp_path):
    known = cached(tmp_path, "m@1", torch_files())
    async with controlled(tmp_path, flavour=Flavour.TORCH) as (client, _):
        [row] = (await client.post("/v2/repository/index")).json()
        assert (row["state"], row["sha256"]) == ("READY", known.model.sha256)
        other = {**body_of(known), "code": body_of(known)["golden"]}
        refused = await client.post("/v2/repository/models/m@2/load", json=other)
        assert (refused.status_code, refused.json()["error"]["code"]) == (
            422,
            "version_refused",
        )


async def test_a_version_whose_code_was_changed_on_the_disk_is_not_back(tmp_path):
    known = cached(tmp_path, "m@1", torch_files())
    assert known.code is not None
    evil = packed({"network.py": SOURCE + "print('evil')\n"})
    Cache(tmp_path).path(known.code).write_bytes(evil)
    async with controlled(tmp_path, flavour=Flavour.TORCH) as (client, _):
        [row] = (await client.post("/v2/repository/index")).json()
        assert row["state"] == "UNAVAILABLE"
        assert row["reason"].startswith(f"code: expected sha256 {known.code.sha256}")


def body_of(files):
    parts = {"onnx": files.model, "manifest": files.manifest, "golden": files.golden}
    return {name: ref.model_dump() for name, ref in {**parts, "code": files.code}.items()}
