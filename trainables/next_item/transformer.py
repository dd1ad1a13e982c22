"""The sequence encoder of SASRec, DreamRec and PreferDiff: one causal attention layer.

Legend: B histories, L positions, D embedding size, H heads, E = D / H.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn

from trainables.next_item.dropout import dropout
from trainables.next_item.few_query_attention import attended, positioned
from trainables.next_item.matrix_weight import MatrixWeight, Precision, Region, times, times_transposed

_Layer = Callable[[Tensor], Tensor]


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

    Source: PreferDiff D.2 (one layer, two heads), in the form of its authors' program, which differs from the one that
    D.2 cites in the residuals around attention and feed-forward. Histories have at least one item.

    Args:
        size: D.
        history_length: L.
        dropout: of embeddings, attention and feed-forward.
        heads: H.
        precision: what the weights' matrix products multiply; all else is float32.

    Raises:
        ValueError: the size is no multiple of the number of heads.
    """

    def __init__(
        self, size: int, history_length: int, dropout: float = 0.1, heads: int = 2, precision: Precision = "float32"
    ) -> None:
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
        self.matrices = {
            name: MatrixWeight(getattr(self, name).weight, precision)
            for name in ("query", "key", "value", "inner", "outer")
        }

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
        x_BLD, last_BD = positioned(embedded_BLD, self.position_LD, real_BL, self.dropout, self.training)
        normed_BD = self.query_norm(last_BD)

        query_BHE = self._linear("query", normed_BD).unflatten(-1, (self.heads, -1))
        key, value = self.matrices["key"], self.matrices["value"]
        parts = self._head_regions()
        query_BHD = torch.stack([times(query_BHE[:, head], key, part) for head, part in enumerate(parts)], dim=1)
        scale = self.query.in_features**-0.5
        mixed_BHD, sum_BH = attended(x_BLD, query_BHD, real_BL, scale, self.dropout, self.training)
        heads = [times_transposed(mixed_BHD[:, head], value, part) for head, part in enumerate(parts)]
        # Dropout leaves weights that do not sum to one, so the bias is weighted too.
        attended_BHE = torch.stack(heads, dim=1) + sum_BH.unsqueeze(-1) * self.value.bias.view(self.heads, -1)
        return self._feed_forward(attended_BHE.flatten(1) + normed_BD + last_BD, self._inner, self._outer)

    def all_positions(self, embedded_BLD: Tensor, length_B: Tensor) -> Tensor:
        """Return the states at all positions [B, L, D], zero where padded: the reference form, in float32."""
        real_BL = self._real(embedded_BLD, length_B)
        x_BLD = dropout(embedded_BLD + self.position_LD, self.dropout, self.training) * real_BL.unsqueeze(-1)
        normed_BLD = self.query_norm(x_BLD)

        def by_head(projected_BLD: Tensor) -> Tensor:
            return projected_BLD.view(*projected_BLD.shape[:2], self.heads, -1).transpose(1, 2)

        score_BHLL = by_head(self.query(normed_BLD)) @ by_head(self.key(x_BLD)).transpose(-1, -2)
        causal_LL = real_BL.new_ones(real_BL.shape[1], real_BL.shape[1]).tril()
        score_BHLL = score_BHLL * self.query.in_features**-0.5
        allowed_B1LL = real_BL[:, None, None] & causal_LL
        weight_BHLL = score_BHLL.masked_fill(~allowed_B1LL, -torch.inf).softmax(dim=-1)
        weight_BHLL = dropout(weight_BHLL, self.dropout, self.training)
        attended_BHLE = weight_BHLL @ by_head(self.value(x_BLD))
        state_BLD = self._feed_forward(
            attended_BHLE.transpose(1, 2).flatten(2) + normed_BLD + x_BLD, self.inner, self.outer
        )
        return torch.where(real_BL.unsqueeze(-1), state_BLD, 0.0)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        layer: nn.Linear = getattr(self, name)
        return times_transposed(x, self.matrices[name]) + layer.bias

    def _head_regions(self) -> list[Region]:
        """Return each head's rows of the key's and the value's weight."""
        size = self.query.in_features
        width = size // self.heads
        return [Region((head * width, (head + 1) * width), (0, size)) for head in range(self.heads)]

    def _real(self, embedded_BLD: Tensor, length_B: Tensor) -> Tensor:
        return torch.arange(embedded_BLD.shape[1], device=length_B.device) < length_B.unsqueeze(1)

    def _inner(self, x_BD: Tensor) -> Tensor:
        return self._linear("inner", x_BD)

    def _outer(self, x_BD: Tensor) -> Tensor:
        return self._linear("outer", x_BD)

    def _feed_forward(self, state: Tensor, inner: _Layer, outer: _Layer) -> Tensor:
        normed = self.state_norm(state)
        changed = dropout(outer(torch.relu(inner(normed))), self.dropout, self.training)
        final: Tensor = self.final_norm(self.feed_forward_norm(changed + normed) + state)
        return final
