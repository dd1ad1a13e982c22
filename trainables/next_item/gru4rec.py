"""GRU4Rec (Hidasi et al. 2016) as PreferDiff's Table 1 compares with it.

Legend: B histories, I items, D embedding size.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from trainables.base import DropoutRate, PositiveInt, SequenceBatch
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.full_softmax import full_softmax_loss
from trainables.next_item.gru import GRUEncoder
from trainables.next_item.item_embedding import ItemEmbedding


class GRU4Rec(AdamWTrained):
    """A gated recurrent layer's last state, ranked by dot product.

    A user's history is one session. The loss is cross-entropy over all items, as PreferDiff has it for all baselines;
    Hidasi et al. train with sampled ranking losses (BPR, TOP1) on session-parallel batches.

    Args:
        items: number of items.
        history_length: positions of a history.
        size: embedding size, and the state's.
        dropout: of the embedded items.
        output: `shared` ranks with the input's item embeddings, as the other baselines of the table do; `own` has a
            second table for it, Hidasi et al.'s output layer.

    The other parameters are as in `AdamWTrained`.

    Source: Hidasi et al. 2016, §3.1; PreferDiff D.2, D.3 and Table 11.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        *,
        size: PositiveInt = 64,
        dropout: DropoutRate = 0.1,
        output: Literal["shared", "own"] = "shared",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.embedding = ItemEmbedding(items, size, scored_in_loss=output == "shared")
        self.encoder = GRUEncoder(size, history_length, dropout)
        self.output = self.embedding if output == "shared" else ItemEmbedding(items, size)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean cross-entropy of the targets among all items."""
        state_BD = self.encoder(self.embedding.histories(batch), batch.length_B)
        return full_softmax_loss(state_BD, self.output.weight, batch.target_B - 1)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return dot products of the histories' states with all items [B, I]."""
        return self.output.scores(self.encoder(self.embedding.histories(batch), batch.length_B))
