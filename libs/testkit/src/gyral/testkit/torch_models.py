"""Small versions served as torch, made by hand without torch; a test may spoil any part."""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gyral.contracts.evaluation import Cell, GoldenRows
from gyral.modelling.archives import packed
from gyral.modelling.features import Encoding, FeatureKind, FeatureSpec, FittedNumber, Transform
from gyral.modelling.manifest import DatasetPin, Manifest, Setting, TorchModel, made_of

SOURCE = """
import torch
from torch import nn


class Logistic(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.layer = nn.Linear(width, 1)

    def forward(self, matrix):
        return torch.sigmoid(self.layer(matrix)).squeeze(1)


def build(config):
    return Logistic(config["width"])
"""
ROWS = ({"x": 1.0, "y": 2.0}, {"x": -3.0, "y": 0.5})
TENSORS = {
    "layer.weight": np.array([[0.5, -0.2]], np.float32),
    "layer.bias": np.array([0.1], np.float32),
}
ENTRY = "network:build"
CONFIG: Mapping[str, Setting] = {"width": 2}


@dataclass(frozen=True, slots=True)
class TorchFiles:
    """What a training run leaves of a version served as torch, as far as serving needs it."""

    weights: bytes
    code: bytes
    manifest: bytes
    golden: bytes

    @property
    def sha256(self) -> str:
        """Digest of the weights."""
        return hashlib.sha256(self.weights).hexdigest()


def probability(row: Mapping[str, float]) -> float:
    """Return what the unspoilt version answers to one row."""
    return 1.0 / (1.0 + math.exp(-(0.1 + 0.5 * row["x"] - 0.2 * row["y"])))


def tensors_file(
    tensors: Mapping[str, NDArray[np.float32]], code: bytes, **metadata: str
) -> bytes:
    """Return tensors as safetensors, bound to what builds them unless the metadata differ."""
    from safetensors.numpy import save  # noqa: PLC0415 - it comes with the extra `torch`

    code_sha256 = hashlib.sha256(code).hexdigest()
    bound = {"made_of_sha256": made_of(code_sha256, ENTRY, CONFIG), **metadata}
    file: bytes = save(dict(tensors), metadata=bound)
    return file


def torch_files(
    source: str = SOURCE, *, weights: bytes | None = None, code: bytes | None = None
) -> TorchFiles:
    """Return a version's files, with digests that agree whatever they hold.

    Args:
        source: of the one module `network`.
        weights: other bytes in their place.
        code: another archive.
    """
    archive = packed({"network.py": source}) if code is None else code
    file = tensors_file(TENSORS, archive) if weights is None else weights
    columns: dict[str, tuple[Cell, ...]] = {
        name: tuple(row[name] for row in ROWS) for name in ("x", "y")
    }
    golden = GoldenRows(columns=columns, probabilities=tuple(map(probability, ROWS)))
    manifest = Manifest(
        model="m",
        run_id="00000000-0000-4000-8000-000000000000",
        trainer="by hand",
        positive="z > 0",
        inputs=tuple(FeatureSpec(name, FeatureKind.NUMERIC) for name in ("x", "y")),
        transform=Transform(
            Encoding.EMBEDDING,
            tuple(FittedNumber(name, 0.0, 1.0, missing_seen=False) for name in ("x", "y")),
        ),
        torch=TorchModel(
            sha256=hashlib.sha256(file).hexdigest(),
            size_bytes=len(file),
            code_sha256=hashlib.sha256(archive).hexdigest(),
            entry=ENTRY,
            config=dict(CONFIG),
        ),
        datasets=(DatasetPin(stream="rows", version=0),),
        cutoff_us=0,
        rows=1,
        seed=0,
        code_version="test",
        libraries={"torch": "2.15.0", "safetensors": "0.8.0"},
    )
    return TorchFiles(file, archive, manifest.to_json(), golden.model_dump_json().encode())
