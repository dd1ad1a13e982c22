"""BERT4Rec (Sun et al. 2019) as PreferDiff's Table 1 compares with it.

Legend: B histories, L positions, M masked positions of a batch, K of a history at most, D embedding size, H heads,
E = D / H, J = K·H, I items.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainables.base import DropoutRate, PositiveInt, Probability, SequenceBatch
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.appended import with_item_appended
from trainables.next_item.dropout import dropout
from trainables.next_item.few_query_attention import attended
from trainables.next_item.full_softmax import full_softmax_loss
from trainables.next_item.item_embedding import ItemEmbedding


class BERT4Rec(AdamWTrained):
    """A bidirectional attention layer that restores masked items; the next item is a mask at the history's end.

    Trains on a user's history and target as one sequence, whose masked items are restored by cross-entropy over all
    items. Masked items alone attend, go through the feed-forward layers and are scored.

    PreferDiff D.3 takes its masks from SSLRec. There each item is drawn with probability ρ, perhaps none of a sequence;
    of those drawn 8 of 10 are masked, one is replaced by another item and one is left, and scores come from a layer of
    their own. Here ρ of a sequence's items are masked, as Sun et al. have it, and scores come from the embeddings.

    Args:
        items: number of items.
        history_length: positions of a history.
        size: embedding size.
        dropout: of embeddings, attention and feed-forward.
        heads: attention heads.
        mask_probability: ρ, the share of a sequence's items that is masked, at least one.
        last_probability: how often a sequence has its last item masked instead, the task that inference has; the
            authors' program adds one such sequence to ten others.

    The other parameters are as in `AdamWTrained`.

    Source: Sun et al. 2019, §3; one layer and two heads from PreferDiff D.2, the search space from its Table 11.

    Raises:
        ValueError: the size is no multiple of the number of heads.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        *,
        size: PositiveInt = 64,
        dropout: DropoutRate = 0.1,
        heads: PositiveInt = 2,
        mask_probability: Probability = 0.2,
        last_probability: Probability = 1 / 11,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.dropout = dropout
        self.mask_probability = mask_probability
        self.last_probability = last_probability
        self.embedding = ItemEmbedding(items, size, scored_in_loss=True)
        self.mask_D = nn.Parameter(torch.randn(size))
        self.position_LD = nn.Parameter(torch.randn(history_length + 1, size))
        self.attention = BidirectionalAttention(size, heads, dropout)
        self.feed_forward = nn.Sequential(nn.Linear(size, 4 * size), nn.GELU(), nn.Linear(4 * size, size))
        self.norm = nn.LayerNorm(size)
        self.output = nn.Sequential(nn.Linear(size, size), nn.GELU())
        self.bias_I = nn.Parameter(torch.zeros(items))

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean cross-entropy of the masked items among all items (eq. 8)."""
        sequences = with_item_appended(batch, batch.target_B)
        masked_BL = self._cloze(sequences)
        target_M = sequences.history_BL[masked_BL] - 1
        return full_softmax_loss(self._states(sequences, masked_BL), self.embedding.weight, target_M, self.bias_I)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return the scores of all items at a mask after the history [B, I]."""
        sequences = with_item_appended(batch, torch.zeros_like(batch.target_B))
        position_L = torch.arange(sequences.history_BL.shape[1])
        state_BD = self._states(sequences, position_L == batch.length_B.unsqueeze(1))
        return torch.addmm(self.bias_I, state_BD, self.embedding.weight.T)

    def _cloze(self, sequences: SequenceBatch) -> Tensor:
        """Draw which items are masked [B, L]."""
        position_L, length_B1 = torch.arange(sequences.history_BL.shape[1]), sequences.length_B.unsqueeze(1)
        count_B1 = (length_B1 * self.mask_probability).round().clamp(min=1)
        draw_BL = torch.rand(sequences.history_BL.shape).masked_fill(position_L >= length_B1, 2)
        chosen_BL = draw_BL.argsort(dim=1).argsort(dim=1) < count_B1
        last_BL = position_L == length_B1 - 1
        return torch.where(torch.rand(len(sequences), 1) < self.last_probability, last_BL, chosen_BL)

    def _states(self, sequences: SequenceBatch, masked_BL: Tensor) -> Tensor:
        """Return the output states at the masked positions [M, D], in the order of rows and positions."""
        item_BLD = self.embedding.histories(sequences)
        x_BLD = torch.where(masked_BL.unsqueeze(-1), self.mask_D, item_BLD) + self.position_LD
        x_BLD = dropout(x_BLD, self.dropout, self.training)
        attended_MD = self.attention(x_BLD, sequences.length_B, masked_BL)
        changed_MD = dropout(self.feed_forward(attended_MD), self.dropout, self.training)
        state_MD: Tensor = self.output(self.norm(attended_MD + changed_MD))
        return state_MD


class BidirectionalAttention(nn.Module):
    """Multi-head self-attention with dropout, residual and layer norm: A of Sun et al. 2019, §3.3.

    Raises:
        ValueError: the size is no multiple of the number of heads.
    """

    def __init__(self, size: int, heads: int, dropout: float) -> None:
        super().__init__()
        if size % heads:
            raise ValueError(f"encoder: size {size} is no multiple of {heads} heads; change size or heads")
        self.heads = heads
        self.dropout = dropout
        self.query_key_value = nn.Linear(size, 3 * size)
        self.output = nn.Linear(size, size)
        self.norm = nn.LayerNorm(size)

    def forward(self, x_BLD: Tensor, length_B: Tensor, asked_BL: Tensor) -> Tensor:
        """Return the attended states of the positions asked for [M, D], in the order of rows and positions.

        No position is projected to a key or a value: the key's weight is applied to the few queries, the value's to
        what they attend to. Equal to attention from all positions up to rounding. Padded positions are not attended to.
        """
        real_BL = torch.arange(x_BLD.shape[1]) < length_B.unsqueeze(1)
        row_M, position_M = asked_BL.nonzero(as_tuple=True)
        place_M = asked_BL.cumsum(1)[row_M, position_M] - 1
        shape = len(x_BLD), int(asked_BL.sum(1).max()), self.heads, x_BLD.shape[2]
        query_HED, key_HED, value_HED = self.query_key_value.weight.unflatten(0, (3, self.heads, -1))
        # The key's bias would add the same to all scores of a query, and the softmax cancels that.
        bias_HE, _, value_bias_HE = self.query_key_value.bias.unflatten(0, (3, self.heads, -1))

        x_MD = x_BLD[row_M, position_M]
        query_MHE = torch.einsum("md,hed->mhe", x_MD, query_HED) + bias_HE
        query_MHD = torch.einsum("mhe,hed->mhd", query_MHE, key_HED)
        query_BJD = x_BLD.new_zeros(shape).index_put((row_M, place_M), query_MHD).flatten(1, 2)
        scale = query_MHE.shape[2] ** -0.5
        mixed_BJD, sum_BJ = attended(x_BLD, query_BJD, real_BL, scale, self.dropout, self.training)
        mixed_MHD, sum_MH = mixed_BJD.view(shape)[row_M, place_M], sum_BJ.view(shape[:3])[row_M, place_M]
        # Dropout leaves weights that do not sum to one, so the bias is weighted too.
        value_MHE = torch.einsum("mhd,hed->mhe", mixed_MHD, value_HED) + sum_MH.unsqueeze(-1) * value_bias_HE
        attended_MD = dropout(self.output(value_MHE.flatten(1)), self.dropout, self.training)
        normed_MD: Tensor = self.norm(x_MD + attended_MD)
        return normed_MD
