"""HGN (Ma et al. 2019), hierarchical gating, as PreferDiff's leave-one-out tables name it.

Legend: B histories, L positions, D embedding size, I items, U users.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from trainables.base import DropoutRate, PositiveInt, SequenceBatch
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.dropout import dropout
from trainables.next_item.full_softmax import full_softmax_loss
from trainables.next_item.item_embedding import ItemEmbedding
from trainables.next_item.user_embedding import UserEmbedding


class HGN(AdamWTrained):
    """Gates on an item's features, a gate on each item, their pooled history, and products of items with items.

    A score is (user + pooled gated items + sum of the items) · output embedding: all three are linear, so one query
    holds them. Where every user is in training both gates see the user, and so does the score; where users are split,
    there is none in either. An item's gate has weights of its own for the user at each of the L last places, the last
    item at the last. The paper's loss is BPR with sampled negatives; this one is cross-entropy over all items, as
    PreferDiff has it for all baselines. The authors' program divides the sum of the gated items by the sum of their
    gates, where this one takes their mean, adds a bias of each item to the scores, and trains on windows of five items
    along the whole sequence; here a user has one example, or with the setting `prefixes` one for each item.

    Args:
        items: number of items.
        history_length: positions of a history; without users the gates do not look at them.
        users: number of users; None where batches do not tell them.
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
        users: int | None = None,
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
        self.user = None if users is None else UserGates(users, history_length, size)
        with torch.no_grad():
            self.embedding.weight.div_(size)
            self.output.weight.div_(size)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean cross-entropy of the targets among all items."""
        return full_softmax_loss(self._query(batch), self.output.weight, batch.target_B - 1)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return the scores of all items [B, I] (eq. 8)."""
        return self.output.scores(self._query(batch))

    def _query(self, batch: SequenceBatch) -> Tensor:
        """Return what every item's output embedding is multiplied with [B, D] (eq. 2–8)."""
        user: UserParts | None = None if self.user is None else self.user(batch)
        item_BLD = dropout(self.embedding.histories(batch), self.dropout, self.training)
        real_BL1 = (torch.arange(item_BLD.shape[1]) < batch.length_B.unsqueeze(1)).unsqueeze(-1)
        item_BLD = torch.where(real_BL1, item_BLD, 0.0)
        feature_BLD = self.feature_gate(item_BLD)
        gated_BLD = item_BLD * (feature_BLD if user is None else feature_BLD + user.feature_B1D).sigmoid()
        instance_BL1 = self.instance_gate(gated_BLD)
        gated_BLD = gated_BLD * (instance_BL1 if user is None else instance_BL1 + user.instance_BL1).sigmoid()
        pooled_BD: Tensor
        if self.pooling == "mean":
            pooled_BD = gated_BLD.sum(1) / batch.length_B.unsqueeze(1)
        else:
            pooled_BD = gated_BLD.masked_fill(~real_BL1, -torch.inf).amax(1)
        query_BD = pooled_BD + item_BLD.sum(1)
        return query_BD if user is None else query_BD + user.embedding_BD


class UserParts(NamedTuple):
    """What users add to the gates of features, to those of items, and to the query."""

    feature_B1D: Tensor
    instance_BL1: Tensor
    embedding_BD: Tensor


class UserGates(nn.Module):
    """The users' embeddings, and the weights that both gates have for them.

    Source: Ma et al. 2019, eq. 2 (W_g2) and the gate of items (W_g4).
    """

    def __init__(self, users: int, history_length: int, size: int) -> None:
        super().__init__()
        self.embedding = UserEmbedding(users, size)
        self.feature_gate = nn.Linear(size, size, bias=False)
        self.instance_gate = nn.Linear(size, history_length, bias=False)
        nn.init.xavier_uniform_(self.instance_gate.weight)

    def forward(self, batch: SequenceBatch) -> UserParts:
        """Return the parts of a batch's users; beyond a history's length they hold no meaning."""
        user_BD = self.embedding(batch)
        place_BL = self.instance_gate(user_BD)
        length = place_BL.shape[1]
        index_BL = torch.arange(length) + (length - batch.length_B.long()).unsqueeze(1)
        instance_BL = place_BL.gather(1, index_BL.clamp(max=length - 1))
        return UserParts(self.feature_gate(user_BD).unsqueeze(1), instance_BL.unsqueeze(-1), user_BD)
