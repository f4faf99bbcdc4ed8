"""The torch recipe: a small network with an embedding per category; imported when wanted."""

import io
import os
import warnings
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
import onnx
import torch
from pydantic import ConfigDict, Field
from torch import Tensor, nn

from gyral.modelling.columns import Bools, Floats
from gyral.modelling.features import Encoding, Transform
from gyral.trainer.engine.conversion import OUTPUT
from gyral.trainer.engine.recipes import Fitted, Matrix

OPSET = 18
_CHUNK = 65_536


class Network(nn.Module):  # type: ignore[misc]
    """Numbers as they come, categories through embeddings, then two hidden layers."""

    def __init__(
        self, numbers: int, cardinalities: tuple[int, ...], hidden: int, dropout: float
    ) -> None:
        super().__init__()
        self.numbers = numbers
        widths = [min(32, (size + 1) // 2 + 1) for size in cardinalities]
        self.embeddings = nn.ModuleList(
            nn.Embedding(size, width) for size, width in zip(cardinalities, widths, strict=True)
        )
        self.layers = nn.Sequential(
            nn.Linear(numbers + sum(widths), hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, hidden // 2),
            nn.ReLU(),
            nn.Linear(hidden // 2, 1),
        )

    def forward(self, matrix: Tensor) -> Tensor:
        """Return P(positive) of each row, shape [n]."""
        return torch.sigmoid(self.logits(matrix))

    def logits(self, matrix: Tensor) -> Tensor:
        """Return the log-odds of each row, shape [n]."""
        parts = [matrix[:, : self.numbers]]
        for place, embedding in enumerate(self.embeddings, self.numbers):
            parts.append(embedding(matrix[:, place].to(torch.int64)))
        scores: Tensor = self.layers(torch.cat(parts, dim=1)).squeeze(1)
        return scores


class _Probability(nn.Module):  # type: ignore[misc]
    """Exports `forward` alone."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, matrix: Tensor) -> Tensor:
        return self.network(matrix)


@dataclass(frozen=True, slots=True)
class FittedNetwork:
    """A network that learned, on the CPU and in evaluation mode."""

    network: Network
    width: int

    def probabilities(self, matrix: Matrix) -> Floats:
        """Return P(positive) of each row, shape (n,)."""
        with torch.inference_mode():
            parts = [
                self.network(torch.from_numpy(matrix[start : start + _CHUNK])).numpy()
                for start in range(0, len(matrix), _CHUNK)
            ]
        return np.concatenate(parts or [np.empty(0)]).astype(np.float64)

    def to_onnx(self) -> onnx.ModelProto:
        """Return it as one ONNX graph with a free number of rows."""
        file = io.BytesIO()
        with warnings.catch_warnings():
            # It warns of its own deprecated calls; what it makes is compared row by row.
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                _Probability(self.network),
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
    """A multilayer perceptron trained by AdamW at a one-cycle rate; on CUDA if there is one."""

    epochs: Annotated[int, Field(ge=1, le=1000)] = 4
    batch_rows: Annotated[int, Field(ge=2)] = 512
    hidden: Annotated[int, Field(ge=2, le=4096)] = 128
    learning_rate: Annotated[float, Field(gt=0)] = 2e-3
    weight_decay: Annotated[float, Field(ge=0)] = 1e-5
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05

    encoding: ClassVar[Encoding] = Encoding.EMBEDDING
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    def fit(self, matrix: Matrix, positive: Bools, transform: Transform, seed: int) -> Fitted:
        """Learn from n rows."""
        torch.manual_seed(seed)
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        sizes = transform.cardinalities
        numbers = len(transform.outputs) - len(sizes)
        network = Network(numbers, sizes, self.hidden, self.dropout).to(device)
        rows = torch.from_numpy(matrix).to(device)
        labels = torch.from_numpy(positive.astype(np.float32)).to(device)
        self._descend(network, rows, labels, torch.Generator().manual_seed(seed))
        return FittedNetwork(network.cpu().eval(), len(transform.outputs))

    def _descend(
        self, network: Network, rows: Tensor, labels: Tensor, shuffle: torch.Generator
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
