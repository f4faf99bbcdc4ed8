"""What the deployer makes of the runtime's answers, asked of the real one."""

import pytest

from gyral.contracts.training import Artifacts
from gyral.deployer.jobs import NotNowError, RefusedByRuntimeError, Runtime
from gyral.kit.db import is_infrastructure
from gyral.testkit.onnx_models import Logistic
from tests.services.runtime.control import cached, controlled


def a_version(folder):
    """A version in the cache of a runtime, as its only one."""
    files = Logistic({"x": 0.5}, bias=0.1).files(({"x": 1.0}, {"x": -1.0}))
    known = cached(folder, "m@1", files)
    return Artifacts(
        onnx=known.onnx,
        manifest=known.manifest,
        golden=known.golden,
        profile=known.golden,
        evaluation=known.golden,
    )


async def test_a_full_runtime_says_nothing_of_the_version(tmp_path):
    artifacts = a_version(tmp_path)
    async with controlled(tmp_path, max_models=1) as (client, _):
        runtime = Runtime(client)
        with pytest.raises(NotNowError, match="RUNTIME_MAX_MODELS") as caught:
            await runtime.load("m@2", artifacts)
        assert is_infrastructure(caught.value)  # so the job is tried again, uncounted
        assert set(await runtime.held()) == {"m@1"}


async def test_other_bytes_for_a_loaded_version_are_a_refusal(tmp_path):
    artifacts = a_version(tmp_path)
    other = artifacts.onnx.model_copy(update={"sha256": "0" * 64})
    async with controlled(tmp_path, max_models=1) as (client, _):
        with pytest.raises(RefusedByRuntimeError, match="Unload it first"):
            await Runtime(client).load("m@1", artifacts.model_copy(update={"onnx": other}))
