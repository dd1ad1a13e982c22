"""The most popular items, whatever the history: what a recommender must beat.

Legend: B histories, I items, L positions.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.base import NextItemRanker, SequenceBatch, SequenceSource

ROWS = 4096


class Popularity(NextItemRanker):
    """Ranks items by how often they occur in the training rows, histories and targets together.

    Args:
        items: number of items.
        history_length: positions of a history.
    """

    def __init__(self, items: int, history_length: int) -> None:
        super().__init__()
        del history_length
        self.count_I: Tensor
        self.register_buffer("count_I", torch.zeros(items))

    def prepare(self, train: SequenceSource) -> None:
        """Count the items of the training rows."""
        for batch in train.batches(ROWS):
            position_L = torch.arange(batch.history_BL.shape[1], device=batch.history_BL.device)
            taken_N = batch.history_BL[position_L < batch.length_B.unsqueeze(1)]
            item_N = torch.cat([taken_N, batch.target_B]).long() - 1
            self.count_I += torch.bincount(item_N, minlength=len(self.count_I))

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return how often each item occurs [B, I], the same for every history."""
        return self.count_I.expand(len(batch), -1)
