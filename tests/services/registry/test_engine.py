"""The manifest that a verdict rests on speaks of the very files that the run left."""

import pytest

from gyral.kit.blobs import Blobs
from gyral.registry.engine import Evidence, UnreadableEvidenceError
from gyral.testkit.onnx_models import Logistic
from gyral.testkit.torch_models import torch_files
from tests.services.registry.builders import artifacts

pytestmark = pytest.mark.live


async def kept(blobs: Blobs, folder: str, **parts: bytes):
    refs = {
        name: await blobs.put_bytes(f"{folder}/{name}", part) for name, part in parts.items()
    }
    return artifacts().model_copy(update=refs)


async def test_a_version_is_of_either_format(blobs):
    pytest.importorskip("safetensors")
    onnx = Logistic({"x": 0.5}).files(({"x": 1.0},))
    torch = torch_files()
    of_onnx = await kept(blobs, "onnx", onnx=onnx.onnx, manifest=onnx.manifest)
    assert await Evidence(blobs).input_names(of_onnx) == ("x",)
    of_torch = await kept(
        blobs, "torch", onnx=torch.weights, code=torch.code, manifest=torch.manifest
    )
    assert await Evidence(blobs).input_names(of_torch) == ("x", "y")
    for mixed, said in (
        (of_torch.model_copy(update={"code": None}), "expected code_sha256 None"),
        (of_torch.model_copy(update={"code": of_torch.onnx}), "expected code_sha256"),
        (of_torch.model_copy(update={"onnx": of_onnx.onnx}), "expected the model's sha256"),
        (of_onnx.model_copy(update={"code": of_torch.code}), "; found None"),
    ):
        with pytest.raises(UnreadableEvidenceError, match=said):
            await Evidence(blobs).input_names(mixed)
