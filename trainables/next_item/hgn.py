"""HGN (Ma et al. 2019), hierarchical gating, as PreferDiff's leave-one-out tables name it.

Legend: B histories, L positions, D embedding size, I items.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.base import DropoutRate, PositiveInt, SequenceBatch
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.dropout import dropout
from trainables.next_item.full_softmax import full_softmax_loss
from trainables.next_item.item_embedding import ItemEmbedding


class HGN(AdamWTrained):
    """Gates on an item's features, a gate on each item, their pooled history, and products of items with items.

    A score is (pooled gated items + sum of the items) · output embedding: the item-item product is linear, so one
    query holds both. There is no user embedding, in the gates or in the score: test users do not occur in training
    where users are split. The paper's loss is BPR with sampled negatives; this one is cross-entropy over all items, as
    PreferDiff has it for all baselines. The authors' program divides the sum of the gated items by the sum of their
    gates, where this one takes their mean, adds a bias of each item to the scores, and trains on windows of five items
    along the whole sequence; here a user has one example, or with the setting `prefixes` one for each item.

    Args:
        items: number of items.
        history_length: positions of a history; the gates of items do not look at positions.
        size: embedding size.
        dropout: of the embedded items; the paper has none.
        pooling: of the gated items; `mean` is the paper's, `max` its other one.

    The other parameters are as in `AdamWTrained`.

    Source: Ma et al. 2019, §4 (eq. 2–8); the start of the weights from the authors' program.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        *,
        size: PositiveInt = 64,
        dropout: DropoutRate = 0.0,
        pooling: Literal["mean", "max"] = "mean",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.dropout = dropout
        self.pooling = pooling
        self.embedding = ItemEmbedding(items, size)
        self.feature_gate = nn.Linear(size, size)
        self.instance_gate = nn.Linear(size, 1, bias=False)
        self.output = ItemEmbedding(items, size)
        nn.init.xavier_uniform_(self.instance_gate.weight)
        with torch.no_grad():
            self.embedding.weight.div_(size)
            self.output.weight.div_(size)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean cross-entropy of the targets among all items."""
        return full_softmax_loss(self._query(batch), self.output.weight, batch.target_B - 1)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return the scores of all items [B, I] (eq. 8 without the user)."""
        return self.output.scores(self._query(batch))

    def _query(self, batch: SequenceBatch) -> Tensor:
        """Return what every item's output embedding is multiplied with [B, D]."""
        item_BLD = dropout(self.embedding.histories(batch), self.dropout, self.training)
        real_BL1 = (torch.arange(item_BLD.shape[1]) < batch.length_B.unsqueeze(1)).unsqueeze(-1)
        item_BLD = torch.where(real_BL1, item_BLD, 0.0)
        gated_BLD = item_BLD * self.feature_gate(item_BLD).sigmoid()
        gated_BLD = gated_BLD * self.instance_gate(gated_BLD).sigmoid()
        pooled_BD: Tensor
        if self.pooling == "mean":
            pooled_BD = gated_BLD.sum(1) / batch.length_B.unsqueeze(1)
        else:
            pooled_BD = gated_BLD.masked_fill(~real_BL1, -torch.inf).amax(1)
        return pooled_BD + item_BLD.sum(1)
