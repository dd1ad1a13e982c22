"""The item embeddings that next-item models share.

Legend: B histories, L positions, D embedding size, I items.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.base import SequenceBatch


class ItemEmbedding(nn.Module):
    """A table [I, D], row i for item id i + 1, that starts standard normal (PreferDiff D.2 and Table 17)."""

    def __init__(self, items: int, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(items, size))

    def histories(self, batch: SequenceBatch) -> Tensor:
        """Return the histories' embeddings [B, L, D]; padded positions hold no meaning, the encoder zeroes them."""
        return functional.embedding((batch.history_BL - 1).clamp_(min=0), self.weight)

    def histories_and_targets(self, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Return the histories' embeddings [B, L, D] and the targets' [B, D].

        Both come from one gather, so that the gradient of the table is allocated and filled once.
        """
        ids = torch.cat([batch.history_BL, batch.target_B.unsqueeze(1)], dim=1)
        embedded = functional.embedding((ids - 1).clamp_(min=0), self.weight)
        return embedded[:, :-1], embedded[:, -1]

    def scores(self, query_BD: Tensor) -> Tensor:
        """Return the dot products of queries with all items [B, I]."""
        return functional.linear(query_BD, self.weight)
