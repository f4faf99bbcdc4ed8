"""A multilayer perceptron with an embedding per category."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Mlp(nn.Module):  # type: ignore[misc]
    """Numbers as they come, categories through embeddings, then two hidden layers."""

    def __init__(
        self, *, numbers: int, cardinalities: Sequence[int], hidden: int, dropout: float
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


def build(config: dict) -> Mlp:  # type: ignore[type-arg]
    """Return the network of a configuration, with weights that still are to be set."""
    return Mlp(**config)
