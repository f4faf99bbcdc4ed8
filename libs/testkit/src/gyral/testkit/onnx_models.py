"""Small versions of models made by hand, whose answers a test can work out itself."""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from gyral.contracts.evaluation import Cell, GoldenRows
from gyral.modelling.features import (
    Encoding,
    FeatureKind,
    FeatureSpec,
    FittedCategories,
    FittedNumber,
    Transform,
)
from gyral.modelling.manifest import DatasetPin, Manifest, OnnxModel

_OPSET = 17
_IR_VERSION = 9


@dataclass(frozen=True, slots=True)
class VersionFiles:
    """What a training run leaves, as far as serving needs it."""

    onnx: bytes
    manifest: bytes
    golden: bytes

    @property
    def sha256(self) -> str:
        """Digest of the ONNX bytes."""
        return hashlib.sha256(self.onnx).hexdigest()


@dataclass(frozen=True, slots=True)
class Logistic:
    """P = sigmoid(bias + sum of weight * cell); categories count by place, missing as 0."""

    weights: Mapping[str, float]
    bias: float = 0.0
    categories: Mapping[str, tuple[str, ...]] | None = None

    def probability(self, row: Mapping[str, Cell]) -> float:
        """Return what the model answers to one row."""
        total = self.bias + sum(
            weight * self._number(name, row[name]) for name, weight in self.weights.items()
        )
        return 1.0 / (1.0 + math.exp(-total))

    def files(
        self, rows: Sequence[Mapping[str, Cell]], *, model: str = "m", onnx: bytes | None = None
    ) -> VersionFiles:
        """Return the version's files, with these rows as the golden ones.

        Args:
            rows: what the golden answers are worked out for.
            model: its name.
            onnx: another file in place of the one that answers so.
        """
        file = self.onnx() if onnx is None else onnx
        golden = GoldenRows(
            columns={name: tuple(row[name] for row in rows) for name in self.weights},
            probabilities=tuple(self.probability(row) for row in rows),
        )
        answers = golden.model_dump_json().encode()
        return VersionFiles(file, self._manifest(file, model), answers)

    def onnx(self) -> bytes:
        """Return the ONNX file."""
        weights = np.array(list(self.weights.values()), dtype=np.float32)[:, None]
        graph = helper.make_graph(
            [
                helper.make_node("IsNaN", ["x"], ["missing"]),
                helper.make_node("Where", ["missing", "zero", "x"], ["filled"]),
                helper.make_node("MatMul", ["filled", "weights"], ["product"]),
                helper.make_node("Add", ["product", "bias"], ["sum"]),
                helper.make_node("Sigmoid", ["sum"], ["probabilities"]),
            ],
            "logistic",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", len(weights)])],
            [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", 1])],
            [
                numpy_helper.from_array(weights, "weights"),
                numpy_helper.from_array(np.array([self.bias], dtype=np.float32), "bias"),
                numpy_helper.from_array(np.array(0.0, dtype=np.float32), "zero"),
            ],
        )
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION
        )
        onnx.checker.check_model(model)
        return model.SerializeToString()

    def _manifest(self, file: bytes, model: str) -> bytes:
        known = self.categories or {}
        kinds = {
            name: FeatureKind.CATEGORICAL if name in known else FeatureKind.NUMERIC
            for name in self.weights
        }
        fitted = tuple(
            FittedCategories(name, known[name])
            if name in known
            else FittedNumber(name, mean=0.0, sd=1.0, missing_seen=True)
            for name in self.weights
        )
        return Manifest(
            model=model,
            run_id="00000000-0000-4000-8000-000000000000",
            trainer="by hand",
            positive="y > 0",
            inputs=tuple(FeatureSpec(name, kind) for name, kind in kinds.items()),
            transform=Transform(Encoding.ORDINAL, fitted),
            onnx=OnnxModel(
                sha256=hashlib.sha256(file).hexdigest(),
                size_bytes=len(file),
                input="x",
                output="probabilities",
            ),
            datasets=(DatasetPin(stream="rows", version=0),),
            cutoff_us=0,
            rows=1,
            seed=0,
            code_version="test",
            libraries={},
        ).to_json()

    def _number(self, name: str, cell: Cell) -> float:
        known = (self.categories or {}).get(name)
        if known is not None:
            return float(known.index(cell)) if isinstance(cell, str) and cell in known else 0.0
        return 0.0 if cell is None or isinstance(cell, str) else float(cell)
