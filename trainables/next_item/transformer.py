"""The sequence encoder of SASRec, DreamRec and PreferDiff: one causal attention layer.

Legend: B histories, L positions, D embedding size, H heads, E = D / H.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from trainables.next_item.dropout import dropout


class SequenceEncoder(Protocol):
    """Anything that turns embedded histories [B, L, D] and their lengths [B] into representations [B, D]."""

    def __call__(self, embedded_BLD: Tensor, length_B: Tensor) -> Tensor:
        """Return the representations; whatever lies beyond a history's length has no influence."""


class TransformerEncoder(nn.Module):
    """One causal self-attention layer; the state at the last real position represents the history.

    Queries come from the layer-normed sequence, keys and values from the raw one; scores are divided by √D, the whole
    width. There is no output projection. Query, key and value weights are Xavier-uniform, their biases zero; all else
    keeps torch's default. The key has no bias: it would add the same to all scores of a query, and the softmax cancels
    that.

    Source: PreferDiff D.2 (one layer, two heads), in the form of the program that it cites. Histories have at least
    one item.

    Raises:
        ValueError: the size is no multiple of the number of heads.
    """

    def __init__(self, size: int, history_length: int, dropout: float = 0.1, heads: int = 2) -> None:
        super().__init__()
        if size % heads:
            raise ValueError(f"encoder: size {size} is no multiple of {heads} heads; change size or heads")
        self.heads = heads
        self.dropout = dropout
        self.position_LD = nn.Parameter(torch.randn(history_length, size))
        self.query = nn.Linear(size, size)
        self.key = nn.Linear(size, size, bias=False)
        self.value = nn.Linear(size, size)
        for projection in (self.query, self.key, self.value):
            nn.init.xavier_uniform_(projection.weight)
        nn.init.zeros_(self.query.bias)
        nn.init.zeros_(self.value.bias)
        self.query_norm = nn.LayerNorm(size)
        self.state_norm = nn.LayerNorm(size)
        self.inner = nn.Linear(size, size)
        self.outer = nn.Linear(size, size)
        self.feed_forward_norm = nn.LayerNorm(size)
        self.final_norm = nn.LayerNorm(size)

    def forward(self, embedded_BLD: Tensor, length_B: Tensor) -> Tensor:
        """Return the state at each history's last real position [B, D]; see `last_position`."""
        return self.last_position(embedded_BLD, length_B)

    def last_position(self, embedded_BLD: Tensor, length_B: Tensor) -> Tensor:
        """Return the state at each history's last real position [B, D].

        With one layer no other position's query is needed, and with one query the key and value projections can be
        applied to the query and to the mixed sequence instead of to every position: 2·D² multiplications a history
        instead of 2·L·D². Equal to `all_positions` up to rounding.
        """
        real_BL = self._real(embedded_BLD, length_B)
        x_BLD = self._positioned(embedded_BLD, real_BL)
        last_B11 = (length_B.long() - 1).view(-1, 1, 1)
        last_BD = x_BLD.take_along_dim(last_B11, dim=1).squeeze(1)
        normed_BD = self.query_norm(last_BD)

        query_BHE = self.query(normed_BD).unflatten(-1, (self.heads, -1))
        key_HED = self.key.weight.unflatten(0, (self.heads, -1))
        query_BHD = torch.einsum("bhe,hed->bhd", query_BHE, key_HED)
        score_BHL = query_BHD @ x_BLD.transpose(1, 2)
        weight_BHL = self._attention(score_BHL, real_BL[:, None])
        mixed_BHD = weight_BHL @ x_BLD
        value_HED = self.value.weight.unflatten(0, (self.heads, -1))
        attended_BHE = torch.einsum("bhd,hed->bhe", mixed_BHD, value_HED)
        # Dropout leaves weights that do not sum to one, so the bias is weighted too.
        attended_BHE = attended_BHE + weight_BHL.sum(-1, keepdim=True) * self.value.bias.view(self.heads, -1)
        return self._feed_forward(attended_BHE.flatten(1) + normed_BD + last_BD)

    def all_positions(self, embedded_BLD: Tensor, length_B: Tensor) -> Tensor:
        """Return the states at all positions [B, L, D], zero where padded: the reference form."""
        real_BL = self._real(embedded_BLD, length_B)
        x_BLD = self._positioned(embedded_BLD, real_BL)
        normed_BLD = self.query_norm(x_BLD)

        def by_head(projected_BLD: Tensor) -> Tensor:
            return projected_BLD.view(*projected_BLD.shape[:2], self.heads, -1).transpose(1, 2)

        score_BHLL = by_head(self.query(normed_BLD)) @ by_head(self.key(x_BLD)).transpose(-1, -2)
        causal_LL = real_BL.new_ones(real_BL.shape[1], real_BL.shape[1]).tril()
        weight_BHLL = self._attention(score_BHLL, real_BL[:, None, None] & causal_LL)
        attended_BHLE = weight_BHLL @ by_head(self.value(x_BLD))
        state_BLD = self._feed_forward(attended_BHLE.transpose(1, 2).flatten(2) + normed_BLD + x_BLD)
        return torch.where(real_BL.unsqueeze(-1), state_BLD, 0.0)

    def _real(self, embedded_BLD: Tensor, length_B: Tensor) -> Tensor:
        return torch.arange(embedded_BLD.shape[1], device=length_B.device) < length_B.unsqueeze(1)

    def _positioned(self, embedded_BLD: Tensor, real_BL: Tensor) -> Tensor:
        summed_BLD = embedded_BLD + self.position_LD
        return dropout(summed_BLD, self.dropout, self.training) * real_BL.unsqueeze(-1)

    def _attention(self, score: Tensor, allowed: Tensor) -> Tensor:
        size = self.query.in_features
        weight = torch.softmax((score * size**-0.5).masked_fill(~allowed, -torch.inf), dim=-1)
        return dropout(weight, self.dropout, self.training)

    def _feed_forward(self, state: Tensor) -> Tensor:
        normed = self.state_norm(state)
        changed = dropout(self.outer(torch.relu(self.inner(normed))), self.dropout, self.training)
        final: Tensor = self.final_norm(self.feed_forward_norm(changed + normed) + state)
        return final
