"""Recommenders without training: the items most like those of the history.

Legend: B histories, L positions, I items.
"""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor

from trainables.base import NextItemRanker, Probability, SequenceBatch


class NearestItems(NextItemRanker):
    """Ranks items by their cosine similarities to the items of the history, summed with a weight for each position.

    The items of the history come last: each is most like itself, and would stand first otherwise.

    Args:
        items: number of items.
        history_length: positions of a history.
        decay: weight of an item relative to the one after it; 0 looks at the last item alone, 1 at all alike.

    Source: the item-based recommender of Deshpande, Karypis 2004 with cosine similarity, over any features.
    """

    def __init__(self, items: int, history_length: int, *, decay: Probability = 1.0) -> None:
        super().__init__()
        del history_length
        self.items = items
        self.decay = decay

    @abstractmethod
    def summed_similarities(self, weight_IB: Tensor) -> Tensor:
        """Return every item's cosine similarities to all items, summed with these weights: [I, B] → [I, B]."""

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return the weighted sums of cosine similarities [B, I]; −∞ for the items of the history."""
        real_BL = batch.real_positions()
        age_BL = batch.length_B.unsqueeze(1) - real_BL.cumsum(1)
        # 0⁰ is 1: the last item keeps its weight.
        weight_BL = torch.pow(self.decay, age_BL.float()) * real_BL
        item_BL = (batch.history_BL.long() - 1).clamp(min=0)
        weight_BI = weight_BL.new_zeros(len(batch), self.items).scatter_add_(1, item_BL, weight_BL)
        return batch.ranked_last(self.summed_similarities(weight_BI.T).T)
