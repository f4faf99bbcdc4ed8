"""A transformer whose words are the features of a row.

Y. Gorishniy et al., Revisiting Deep Learning Models for Tabular Data, NeurIPS 2021.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Tokens(nn.Module):  # type: ignore[misc]
    """A vector for each feature of a row, and one in front that gathers what they say."""

    def __init__(self, numbers: int, cardinalities: Sequence[int], width: int) -> None:
        super().__init__()
        self.numbers = numbers
        self.weight = nn.Parameter(torch.empty(numbers, width).uniform_(-1, 1) * width**-0.5)
        self.bias = nn.Parameter(torch.zeros(numbers, width))
        self.gather = nn.Parameter(torch.zeros(1, 1, width))
        self.embeddings = nn.ModuleList(nn.Embedding(size, width) for size in cardinalities)

    def forward(self, matrix: Tensor) -> Tensor:
        """Return shape [n, 1 + features, width]."""
        parts = [self.gather.expand(matrix.shape[0], -1, -1)]
        if self.numbers:
            parts.append(matrix[:, : self.numbers, None] * self.weight + self.bias)
        for place, embedding in enumerate(self.embeddings, self.numbers):
            parts.append(embedding(matrix[:, place].to(torch.int64))[:, None])
        return torch.cat(parts, dim=1)


class Block(nn.Module):  # type: ignore[misc]
    """Features look at each other, then each thinks for itself."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before = nn.LayerNorm(width)
        self.look = nn.Linear(width, 3 * width)
        self.said = nn.Linear(width, width)
        self.think = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 2 * width),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(2 * width, width),
        )
        self.drop = nn.Dropout(dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens, each knowing more of the others."""
        rows, features, width = tokens.shape
        asked = self.look(self.before(tokens))
        asked = asked.reshape(rows, features, 3, self.heads, width // self.heads)
        query, key, value = asked.permute(2, 0, 3, 1, 4).unbind(0)
        heard = nn.functional.scaled_dot_product_attention(query, key, value)
        heard = heard.transpose(1, 2).reshape(rows, features, width)
        tokens = tokens + self.drop(self.said(heard))
        thought: Tensor = tokens + self.drop(self.think(tokens))
        return thought


class Transformer(nn.Module):  # type: ignore[misc]
    """Blocks over a row's features, and a score of what the first token gathered."""

    def __init__(
        self,
        *,
        numbers: int,
        cardinalities: Sequence[int],
        width: int,
        heads: int,
        blocks: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.tokens = Tokens(numbers, cardinalities, width)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(blocks))
        self.score = nn.Sequential(nn.LayerNorm(width), nn.ReLU(), nn.Linear(width, 1))

    def forward(self, matrix: Tensor) -> Tensor:
        """Return P(positive) of each row, shape [n]."""
        return torch.sigmoid(self.logits(matrix))

    def logits(self, matrix: Tensor) -> Tensor:
        """Return the log-odds of each row, shape [n]."""
        tokens = self.tokens(matrix)
        for block in self.blocks:
            tokens = block(tokens)
        scores: Tensor = self.score(tokens[:, 0]).squeeze(1)
        return scores


def build(config: dict) -> Transformer:  # type: ignore[type-arg]
    """Return the network of a configuration, with weights that still are to be set."""
    return Transformer(**config)
