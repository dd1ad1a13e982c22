"""SASRec (Kang, McAuley 2018) as PreferDiff's Table 1 compares with it.

Legend: B histories, I items, D embedding size.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from trainables.base import DropoutRate, PositiveInt, SequenceBatch
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.full_softmax import full_softmax_loss
from trainables.next_item.item_embedding import ItemEmbedding
from trainables.next_item.transformer import TransformerEncoder


class SASRec(AdamWTrained):
    """The encoder's last state, ranked by dot product, trained with cross-entropy over all items.

    One example a user, or with the setting `prefixes` one for each item, predicted at the last position alone; item
    embeddings start standard normal.

    Args:
        items: number of items.
        history_length: positions of a history.
        size: embedding size.
        dropout: of embeddings, attention and feed-forward.
        heads: attention heads.
        variant: `paper` trains the items' embeddings on both sides of the dot product; `released` takes those that
            are scored as constants, as the authors' program does, so that an item learns from histories alone.

    The other parameters are as in `AdamWTrained`.

    Source: PreferDiff D.2 and Table 11.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        *,
        size: PositiveInt = 64,
        dropout: DropoutRate = 0.1,
        heads: PositiveInt = 2,
        variant: Literal["paper", "released"] = "paper",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.variant = variant
        self.embedding = ItemEmbedding(items, size, scored_in_loss=variant == "paper")
        self.encoder = TransformerEncoder(size, history_length, dropout, heads)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean cross-entropy of the targets among all items."""
        state_BD = self.encoder(self.embedding.histories(batch), batch.length_B)
        scored_ID = self.embedding.weight.detach() if self.variant == "released" else self.embedding.weight
        return full_softmax_loss(state_BD, scored_ID, batch.target_B - 1)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return dot products of the histories' states with all items [B, I]."""
        return self.embedding.scores(self.encoder(self.embedding.histories(batch), batch.length_B))
