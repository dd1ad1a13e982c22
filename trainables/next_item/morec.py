"""MoRec (Yuan et al. 2023) with text as PreferDiff's Tables 1 and 3 compare with it.

Legend: I items, E text embedding size, D embedding size, B histories, L positions.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from trainables.base import DropoutRate, PositiveInt, SequenceBatch
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.full_softmax import full_softmax_loss
from trainables.next_item.text import OWN_AXES, TextEmbedding, Whitening, whitened
from trainables.next_item.transformer import TransformerEncoder


class MoRec(AdamWTrained):
    """SASRec over items that are a linear transformation of their text embeddings; no parameter belongs to an item.

    Yuan et al. train the text encoder along; PreferDiff's comparison, which this follows, keeps it as it is.
    Cross-entropy over all items, as SASRec.

    Args:
        items: number of items.
        history_length: positions of a history.
        text_IE: the items' text embeddings.
        domain_I: the items' domains, each of which is whitened by itself; None for one.
        size: what the text embeddings are transformed to.
        dropout: of embeddings, attention and feed-forward.
        heads: attention heads.
        whitening: of the text embeddings, before the transformation.

    The other parameters are as in `AdamWTrained`.

    Source: PreferDiff D.2 (SASRec as backbone, transformed to 64), D.5 (ZCA whitening); Yuan et al. 2023, §3.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        text_IE: Tensor,
        domain_I: Tensor | None = None,
        *,
        size: PositiveInt = 64,
        dropout: DropoutRate = 0.1,
        heads: PositiveInt = 2,
        whitening: Whitening = "zca",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.text = TextEmbedding(whitened(text_IE, whitening, domain_I))
        self.tied_to_items = OWN_AXES if whitening == "pca" else ""
        self.transformation = nn.Linear(text_IE.shape[1], size)
        self.encoder = TransformerEncoder(size, history_length, dropout, heads)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean cross-entropy of the targets among all items."""
        return full_softmax_loss(self._state(batch), self._items(), batch.target_B - 1)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return dot products of the histories' states with all transformed items [B, I]."""
        return self._state(batch) @ self._items().T

    def _items(self) -> Tensor:
        item_ID: Tensor = self.transformation(self.text.weight)
        return item_ID

    def _state(self, batch: SequenceBatch) -> Tensor:
        state_BD: Tensor = self.encoder(self.transformation(self.text.histories(batch)), batch.length_B)
        return state_BD
