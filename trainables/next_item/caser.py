"""Caser (Tang & Wang 2018), a convolution over the last items, as PreferDiff's leave-one-out tables name it.

Legend: B histories, L positions, D embedding size, F filters of a height, V vertical filters, I items, U users.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainables.base import DropoutRate, PositiveInt, SequenceBatch
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.dropout import dropout
from trainables.next_item.full_softmax import full_softmax_loss
from trainables.next_item.item_embedding import ItemEmbedding
from trainables.next_item.user_embedding import UserEmbedding


class Caser(AdamWTrained):
    """The embedded history as an image: filters across a few successive items, and filters down each dimension.

    Where every user is in training, items are scored by z beside the user's embedding; where users are split, by z
    alone. The paper's loss is binary with three sampled negatives; this one is cross-entropy over all items, as
    PreferDiff has it for all baselines. Histories end at the last position, zeros before them. The authors' program
    trains on windows of five items along the whole sequence, each with three targets; here a user has one example, or
    with the setting `prefixes` one for each item.

    Args:
        items: number of items.
        history_length: positions of a history.
        users: number of users; None where batches do not tell them.
        size: embedding size.
        dropout: of the convolutions' outputs.
        horizontal_filters: of each height.
        vertical_filters: weighted sums over all positions.
        largest_height: of the horizontal filters, 1 … this, at most the history's length.

    The other parameters are as in `AdamWTrained`.

    Source: Tang & Wang 2018, §3 (eq. 3–11); the start of the weights from the authors' program.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        users: int | None = None,
        *,
        size: PositiveInt = 64,
        dropout: DropoutRate = 0.5,
        horizontal_filters: PositiveInt = 16,
        vertical_filters: PositiveInt = 4,
        largest_height: PositiveInt = 5,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.dropout = dropout
        heights = range(1, min(largest_height, history_length) + 1)
        self.embedding = ItemEmbedding(items, size)
        self.horizontal = nn.ModuleList(nn.Conv1d(size, horizontal_filters, height) for height in heights)
        self.vertical = nn.Linear(history_length, vertical_filters, bias=False)
        self.combine = nn.Linear(horizontal_filters * len(heights) + vertical_filters * size, size)
        scored_size = size if users is None else 2 * size
        self.output = ItemEmbedding(items, scored_size)
        self.bias_I = nn.Parameter(torch.zeros(items))
        self.user = None if users is None else UserEmbedding(users, size)
        with torch.no_grad():
            self.embedding.weight.div_(size)
            self.output.weight.div_(scored_size)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean cross-entropy of the targets among all items."""
        return full_softmax_loss(self._state(batch), self.output.weight, batch.target_B - 1, self.bias_I)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return the output layer's scores of all items [B, I] (eq. 10)."""
        return torch.addmm(self.bias_I, self._state(batch), self.output.weight.T)

    def _state(self, batch: SequenceBatch) -> Tensor:
        """Return z, beside the user's embedding where there are users [B, D or 2 D] (eq. 9–10)."""
        image_BDL = self._right_aligned(batch).transpose(1, 2)
        pooled = [convolution(image_BDL).relu().amax(dim=2) for convolution in self.horizontal]
        summed_BDV = self.vertical(image_BDL)
        features = dropout(torch.cat([*pooled, summed_BDV.flatten(1)], dim=1), self.dropout, self.training)
        state_BD: Tensor = self.combine(features).relu()
        return state_BD if self.user is None else torch.cat([state_BD, self.user(batch)], dim=1)

    def _right_aligned(self, batch: SequenceBatch) -> Tensor:
        """Return the embedded histories [B, L, D], ending at the last position."""
        item_BLD = self.embedding.histories(batch)
        length = item_BLD.shape[1]
        index_BL = torch.arange(length) - (length - batch.length_B.long()).unsqueeze(1)
        shifted_BLD = item_BLD.take_along_dim(index_BL.clamp(min=0).unsqueeze(-1), dim=1)
        return torch.where((index_BL >= 0).unsqueeze(-1), shifted_BLD, 0.0)
