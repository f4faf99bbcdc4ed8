"""The model that every server serves: a hundred boosted trees over twelve numbers, as ONNX."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.ensemble import HistGradientBoostingClassifier

from gyral.contracts.evaluation import GoldenRows
from gyral.modelling.features import Encoding, FeatureKind, FeatureSpec, FittedNumber, Transform
from gyral.modelling.manifest import DatasetPin, Manifest, OnnxModel
from gyral.testkit.onnx_models import VersionFiles

FEATURES = tuple(f"x{number}" for number in range(12))
NAME = "bench"
SAMPLE_ROWS = 64
_TRAINING_ROWS = 50_000
_TREES = 100
_INPUT, _OUTPUT = "x", "probabilities"
_DIGITS = 6


@dataclass(frozen=True, slots=True)
class Served:
    """An ONNX file with rows to ask, and what onnxruntime itself answers to them."""

    onnx: bytes
    rows: Sequence[Sequence[float]]
    probabilities: Sequence[float]

    def files(self) -> VersionFiles:
        """Return what a training run would have left of it."""
        golden = GoldenRows(
            columns={
                name: tuple(row[place] for row in self.rows)
                for place, name in enumerate(FEATURES)
            },
            probabilities=tuple(self.probabilities),
        )
        return VersionFiles(
            self.onnx, manifest_of(self.onnx).to_json(), golden.model_dump_json().encode()
        )


def served(file: bytes) -> Served:
    """Return an ONNX file with sample rows and its answers to them."""
    rows = np.random.default_rng(1).normal(size=(SAMPLE_ROWS, len(FEATURES))).round(_DIGITS)
    return Served(file, rows.tolist(), _answers(file, rows.astype(np.float32)))


def boosted_trees() -> bytes:
    """Train on an interaction, a sine and noise, and return the ONNX file."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(_TRAINING_ROWS, len(FEATURES))).astype(np.float32)
    noise = 0.3 * rng.normal(size=_TRAINING_ROWS)
    positive = x[:, 0] * x[:, 1] + np.sin(x[:, 2]) + noise > 0
    trees = HistGradientBoostingClassifier(
        max_iter=_TREES, early_stopping=False, random_state=0
    ).fit(x, positive)
    graph = to_onnx(
        trees,
        initial_types=[(_INPUT, FloatTensorType([None, len(FEATURES)]))],
        options={id(trees): {"zipmap": False}},
    )
    file: bytes = graph.SerializeToString()
    return file


def manifest_of(file: bytes) -> Manifest:
    """Return the manifest of a model that reads all features as they are."""
    return Manifest(
        model=NAME,
        run_id="00000000-0000-4000-8000-000000000000",
        trainer="tests.bench.serving",
        positive="y > 0",
        inputs=tuple(FeatureSpec(name, FeatureKind.NUMERIC) for name in FEATURES),
        transform=Transform(
            Encoding.ORDINAL,
            tuple(
                FittedNumber(name, mean=0.0, sd=1.0, missing_seen=False) for name in FEATURES
            ),
        ),
        onnx=OnnxModel(
            sha256=hashlib.sha256(file).hexdigest(),
            size_bytes=len(file),
            input=_INPUT,
            output=_OUTPUT,
        ),
        datasets=(DatasetPin(stream="rows", version=0),),
        cutoff_us=0,
        rows=_TRAINING_ROWS,
        seed=0,
        code_version="bench",
        libraries={},
    )


def session(file: bytes) -> onnxruntime.InferenceSession:
    """Return onnxruntime on one thread, as every server here runs it."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def _answers(file: bytes, matrix: NDArray[np.float32]) -> list[float]:
    feeds: Mapping[str, NDArray[np.float32]] = {_INPUT: matrix}
    found = session(file).run([_OUTPUT], feeds)[0]
    answers: list[float] = found[:, -1].astype(float).tolist()
    return answers
