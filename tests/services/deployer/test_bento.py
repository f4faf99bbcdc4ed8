"""A Bento answers as the runtime does, and says all that its image installs."""

import io
import json
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import threading
from array import array
from contextlib import contextmanager, suppress
from importlib import metadata
from pathlib import Path

import httpx
import pytest

from gyral.deployer.engine.bento import VersionFiles, build_bento
from gyral.deployer.engine.locking import locked, pinned
from gyral.deployer.jobs.preparing import Export
from gyral.kit.frames import Batch, Rows
from gyral.kit.jobs import Jobs
from gyral.runtime.engine import Predictor
from gyral.runtime.engine.shelf import Shelf, Version
from gyral.testkit.onnx_models import Logistic
from gyral.testkit.processes import free_port
from gyral.testkit.torch_models import ROWS, torch_files
from tests.services.deployer.builders import approved
from tests.services.registry.builders import artifacts

COLUMNS = {name: [row[name] for row in ROWS] for name in ("x", "y")}


def of_onnx():
    files = Logistic({"x": 0.5, "y": -0.2}, bias=0.1).files(ROWS)
    return VersionFiles("m", 1, files.onnx, files.manifest)


def of_torch():
    files = torch_files()
    return VersionFiles("m", 2, files.weights, files.manifest, files.code)


async def built(files, folder):
    """Build a version's Bento and lay it out as whoever downloads it would."""
    with tarfile.open(fileobj=io.BytesIO(await build_bento(files))) as archive:
        archive.extractall(folder, filter="data")
    return folder


@contextmanager
def served(folder):
    """Run `bentoml serve` on a Bento."""
    port = free_port()
    env = {**os.environ, "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(folder / "home")}
    arguments = ("serve", str(folder), "--host", "127.0.0.1", "--port", str(port))
    with Path(folder, "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "bentoml", *arguments], env=env, stdout=log, stderr=log
        )
        try:
            yield httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30), process
        finally:
            process.terminate()
            process.wait(30)


def of_the_runtime(files):
    """Return what a runtime answers to the same rows, as a gateway asks it."""
    predictor = Predictor.of(files.manifest, files.model_file, files.code)
    shelf, sha256 = Shelf(memory_bytes=1 << 30), predictor.manifest.model_file.sha256
    shelf.put("m@1", Version(sha256, predictor.memory_bytes, lambda: predictor), predictor)
    cells = array("d", [row[name] for row in ROWS for name in COLUMNS]).tobytes()
    batch = Batch("m@1", sha256, tuple(COLUMNS), [Rows(len(ROWS), cells)])
    return list(array("d", shelf.answer(batch)))


def ready(client, process):
    """Wait until it answers or ends."""
    pause = threading.Event()
    while process.poll() is None:
        with suppress(httpx.TransportError):
            if client.get("/readyz").status_code == 200:
                return True
        pause.wait(0.05)
    return False


@pytest.mark.parametrize(
    "make", [of_onnx, pytest.param(of_torch, marks=pytest.mark.torch)], ids=["onnx", "torch"]
)
async def test_a_bento_that_is_served_answers_as_the_runtime_does(make, tmp_path):
    if make is of_torch:
        pytest.importorskip("torch")
    files = make()
    folder = await built(files, tmp_path)
    expected = of_the_runtime(files)
    with served(folder) as (client, process):
        assert ready(client, process), (tmp_path / "log").read_text()
        answer = client.post("/predict", json={"columns": COLUMNS})
        assert answer.status_code == 200, answer.text
        assert answer.json() == expected
        wrong = client.post("/predict", json={"columns": {"x": [1.0]}})
        assert wrong.status_code >= 400


async def test_the_image_of_a_bento_installs_one_version_of_each_library(tmp_path):
    folder = await built(of_onnx(), tmp_path)
    dockerfile = (folder / "env/docker/Dockerfile").read_text()
    assert "pip install -r $BENTO_PATH/env/python/requirements.txt" in dockerfile
    lines = (folder / "env/python/requirements.txt").read_text().split()
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.+]*", line) for line in lines), lines
    assert {line.partition("==")[0] for line in lines} >= {"bentoml", "numpy", "onnxruntime"}
    assert f"starlette=={metadata.version('starlette')}" in lines  # which bentoml needs


ALONE = f"""
import sys, json
from pathlib import Path
from gyral.runtime.engine import Predictor

files = (Path(name).read_bytes() for name in ("manifest.json", "model.onnx"))
answers = Predictor.of(*files).predict_lists({COLUMNS}).tolist()
print(json.dumps([answers, list(sys.modules)]))
"""


def alone(sources):
    """Run what a Bento packs: without .pth files this project is installed nowhere else."""
    return subprocess.run(
        [sys.executable, "-S", "-c", ALONE],
        env={
            **os.environ,
            "PYTHONPATH": f"{sources}{os.pathsep}{sysconfig.get_path('purelib')}",
        },
        cwd=sources,
        capture_output=True,
        text=True,
        check=False,
    )


async def test_a_bento_brings_all_that_its_predictor_imports(tmp_path):
    folder = await built(of_onnx(), tmp_path)
    said = alone(folder / "src")
    assert said.returncode == 0, said.stderr
    answers, modules = json.loads(said.stdout)
    files = of_onnx()
    expected = Predictor.of(files.manifest, files.model_file).predict_lists(COLUMNS)
    assert answers == expected.tolist()
    owners = metadata.packages_distributions()
    tops = {name.partition(".")[0] for name in modules} - {"gyral"}
    needed = {owner for name in tops for owner in owners.get(name, ())}
    fixed = {line.partition("==")[0] for line in files.requirements}
    assert {name.lower().replace("_", "-") for name in needed} <= fixed


def test_a_version_served_as_torch_installs_what_it_was_trained_with():
    assert of_torch().requirements[-2:] == ["safetensors==0.8.0", "torch==2.15.0"]


def test_a_local_build_of_a_library_is_installed_as_the_public_one():
    assert pinned("torch", "2.15.0+cpu") == "torch==2.15.0"


@pytest.mark.parametrize("version", ["", "2.0; rm -rf", "2.0\n--index-url=http://x", "@ file:"])
def test_a_version_that_is_none_reaches_no_installer(version):
    with pytest.raises(ValueError, match=r"libraries\.torch: expected a version; found"):
        pinned("torch", version)


def test_what_is_locked_is_what_is_installed_here():
    fixed = locked(["httpx"])
    assert f"httpx=={metadata.version('httpx')}" in fixed
    assert f"certifi=={metadata.version('certifi')}" in fixed
    with pytest.raises(metadata.PackageNotFoundError):
        locked(["no-such-distribution-at-all"])


@pytest.mark.live
@pytest.mark.parametrize(
    "make", [of_onnx, pytest.param(of_torch, marks=pytest.mark.torch)], ids=["onnx", "torch"]
)
async def test_an_approved_version_is_exported_with_all_its_files(deployer, blobs, make):
    if make is of_torch:
        pytest.importorskip("safetensors")
    files = make()
    parts = {"onnx": files.model_file, "manifest": files.manifest, "code": files.code}
    refs = {name: await blobs.put_bytes(name, part) for name, part in parts.items() if part}
    made = artifacts().model_copy(update=refs)
    await deployer.handlers.version_approved(approved(1, bootstrap=True, made=made))
    job = await Jobs(deployer.pool, "export").claim("worker", 30)
    assert job is not None
    await Export(deployer.opened, blobs).run(job)
    async with deployer.opened() as tx:
        rollout = await tx.rollout("churn", 1)
    assert rollout.bento_key == "bentos/churn/1.bento"
    assert await blobs.exists(rollout.bento_key)
