"""FDSA (Zhang et al. 2019), a row of PreferDiff's Table 8.

Legend: B histories, I items, A attributes of an item, D embedding size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainables.base import DropoutRate, PositiveInt, SequenceBatch
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.attributes import AttributeAttention
from trainables.next_item.full_softmax import full_softmax_loss
from trainables.next_item.item_embedding import ItemEmbedding
from trainables.next_item.transformer import TransformerEncoder


class FDSA(AdamWTrained):
    """Two self-attention encoders, over the history's items and over their attributes; a linear layer joins both.

    The encoders are the comparison's (one layer, two heads). Trained with cross-entropy over all items at the last
    position, as the other methods here, where Zhang et al. take a sampled binary cross-entropy at all positions.

    Args:
        items: number of items.
        history_length: positions of a history.
        attribute_IA: the items' categories and brands.
        size: embedding size.
        dropout: of embeddings, attention and feed-forward.
        heads: attention heads.

    The other parameters are as in `AdamWTrained`.

    Source: Zhang et al. 2019, §3.2–3.6.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        attribute_IA: Tensor,
        *,
        size: PositiveInt = 64,
        dropout: DropoutRate = 0.1,
        heads: PositiveInt = 2,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.embedding = ItemEmbedding(items, size, scored_in_loss=True)
        self.attributes = AttributeAttention(attribute_IA, size)
        self.item_encoder = TransformerEncoder(size, history_length, dropout, heads)
        self.attribute_encoder = TransformerEncoder(size, history_length, dropout, heads)
        self.joined = nn.Linear(2 * size, size)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean cross-entropy of the targets among all items."""
        return full_softmax_loss(self._state(batch), self.embedding.weight, batch.target_B - 1)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return dot products of the joined states with all items [B, I]."""
        return self.embedding.scores(self._state(batch))

    def _state(self, batch: SequenceBatch) -> Tensor:
        item_BD = self.item_encoder(self.embedding.histories(batch), batch.length_B)
        attribute_BD = self.attribute_encoder(self.attributes.histories(batch.history_BL), batch.length_B)
        state_BD: Tensor = self.joined(torch.cat([item_BD, attribute_BD], dim=-1))
        return state_BD
