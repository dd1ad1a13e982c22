"""The most popular items, whatever the history: what a recommender must beat.

Legend: B histories, I items, N occurrences.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.base import NextItemRanker, SequenceBatch, SequenceSource
from trainables.next_item.occurrences import occurrences


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
        item_N, _ = occurrences(train)
        self.count_I = torch.bincount(item_N, minlength=len(self.count_I)).float()

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return how often each item occurs [B, I], the same for every history."""
        return self.count_I.expand(len(batch), -1)
