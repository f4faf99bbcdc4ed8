"""The recipes of torch, trained alike; imported when wanted."""

import hashlib
import inspect
import io
import os
import warnings
from dataclasses import dataclass
from types import MappingProxyType, ModuleType
from typing import Annotated, ClassVar

import numpy as np
import onnx
import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from gyral.contracts.specs.model import Served, Trainer
from gyral.modelling.archives import packed
from gyral.modelling.columns import Bools, Floats
from gyral.modelling.features import Encoding, Transform
from gyral.modelling.manifest import Setting, TorchModel
from gyral.modelling.networks import Network, weights_of
from gyral.trainer.engine.architectures import mlp, transformer
from gyral.trainer.engine.conversion import OUTPUT
from gyral.trainer.engine.order import TrainingRefusedError
from gyral.trainer.engine.recipes import Fitted, Matrix, Recipe
from gyral.trainer.engine.shipping import Shipped, as_onnx, as_torch

OPSET = 18
_MODULE = "network"
"""Name of the architecture's module in the archive of sources."""
_ENTRY = f"{_MODULE}:build"


@dataclass(frozen=True, slots=True)
class Plan:
    """Which network is to be trained, and how it is served."""

    architecture: ModuleType
    config: dict[str, Setting]
    served: Served


@dataclass(frozen=True, slots=True)
class Descent:
    """AdamW at a one-cycle rate; on CUDA if there is one."""

    epochs: int
    batch_rows: int
    learning_rate: float
    weight_decay: float

    def fit(self, plan: Plan, matrix: Matrix, positive: Bools, seed: int) -> "FittedNetwork":
        """Learn from n rows."""
        torch.manual_seed(seed)
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        network = plan.architecture.build(plan.config).to(device)
        rows = torch.from_numpy(matrix).to(device)
        labels = torch.from_numpy(positive.astype(np.float32)).to(device)
        self._descend(network, rows, labels, torch.Generator().manual_seed(seed))
        return FittedNetwork(network.cpu().eval(), plan, matrix.shape[1])

    def _descend(
        self, network: nn.Module, rows: Tensor, labels: Tensor, shuffle: torch.Generator
    ) -> None:
        network.train()
        batches = -(-len(rows) // self.batch_rows)
        adam = torch.optim.AdamW(
            network.parameters(), lr=self.learning_rate, weight_decay=self.weight_decay
        )
        rate = torch.optim.lr_scheduler.OneCycleLR(
            adam, max_lr=self.learning_rate, total_steps=self.epochs * batches
        )
        for _ in range(self.epochs):
            order = torch.randperm(len(rows), generator=shuffle).to(rows.device)
            for picked in order.split(self.batch_rows):
                adam.zero_grad(set_to_none=True)
                logits = network.logits(rows[picked])
                nn.functional.binary_cross_entropy_with_logits(
                    logits, labels[picked]
                ).backward()
                adam.step()
                rate.step()


@dataclass(frozen=True, slots=True)
class FittedNetwork:
    """A network that learned, on the CPU and in evaluation mode."""

    network: nn.Module
    plan: Plan
    width: int

    def probabilities(self, matrix: Matrix) -> Floats:
        """Return P(positive) of each row, shape (n,)."""
        return Network(self.network).probabilities(matrix).astype(np.float64)

    def ship(self) -> Shipped:
        """Return it as ONNX, or as weights with the sources of its architecture."""
        if self.plan.served is Served.ONNX:
            return as_onnx(self._graph())
        code = packed({f"{_MODULE}.py": inspect.getsource(self.plan.architecture)})
        weights = weights_of(self.network, code, _ENTRY, self.plan.config)
        described = TorchModel(
            sha256=hashlib.sha256(weights).hexdigest(),
            size_bytes=len(weights),
            code_sha256=hashlib.sha256(code).hexdigest(),
            entry=_ENTRY,
            config=self.plan.config,
        )
        return as_torch(described, weights, code, width=self.width)

    def _graph(self) -> onnx.ModelProto:
        """Return one ONNX graph with a free number of rows."""
        file = io.BytesIO()
        with warnings.catch_warnings():
            # It warns of its own deprecated calls; what it makes is compared row by row.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                self.network,
                (torch.zeros((2, self.width), dtype=torch.float32),),
                input_names=["matrix"],
                output_names=[OUTPUT],
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("rows", min=1)},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
            program.save(file, external_data=False)
        return onnx.load_from_string(file.getvalue())


@dataclass(frozen=True, slots=True)
class Mlp:
    """A multilayer perceptron: numbers as they come, categories through embeddings."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 4
    batch_rows: Annotated[int, Field(ge=2)] = 512
    hidden: Annotated[int, Field(ge=2, le=4096)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    serve: Served = Served.ONNX

    encoding: ClassVar[Encoding] = Encoding.EMBEDDING
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def fit(self, matrix: Matrix, positive: Bools, transform: Transform, seed: int) -> Fitted:
        """Learn from n rows."""
        config = _inputs(transform) | {"hidden": self.hidden, "dropout": self.dropout}
        descent = Descent(self.epochs, self.batch_rows, self.learning_rate, self.weight_decay)
        return descent.fit(Plan(mlp, config, self.serve), matrix, positive, seed)


@dataclass(frozen=True, slots=True)
class Transformer:
    """A transformer over the features of a row."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 4
    batch_rows: Annotated[int, Field(ge=2)] = 512
    width: Annotated[int, Field(ge=2, le=1024)] = 32
    heads: Annotated[int, Field(ge=1, le=64)] = 4
    blocks: Annotated[int, Field(ge=1, le=24)] = 2
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    serve: Served = Served.ONNX

    encoding: ClassVar[Encoding] = Encoding.EMBEDDING
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def fit(self, matrix: Matrix, positive: Bools, transform: Transform, seed: int) -> Fitted:
        """Learn from n rows.

        Raises:
            TrainingRefusedError: the heads cannot share the width.
        """
        if self.width % self.heads:
            raise TrainingRefusedError(
                f"train.parameters.width: expected a multiple of heads = {self.heads}; found "
                f"{self.width}"
            )
        config = _inputs(transform) | {
            "width": self.width,
            "heads": self.heads,
            "blocks": self.blocks,
            "dropout": self.dropout,
        }
        descent = Descent(self.epochs, self.batch_rows, self.learning_rate, self.weight_decay)
        return descent.fit(Plan(transformer, config, self.serve), matrix, positive, seed)


RECIPES: MappingProxyType[Trainer, type[Recipe]] = MappingProxyType(
    {Trainer.MLP: Mlp, Trainer.TRANSFORMER: Transformer}
)


def _inputs(transform: Transform) -> dict[str, Setting]:
    """Return what a network is told of the matrix that it reads."""
    sizes = transform.cardinalities
    return {"numbers": len(transform.outputs) - len(sizes), "cardinalities": sizes}
