"""Product-based neural networks (Qu et al., ICDM 2016).

Legend: B rows of a batch, F embedded fields, D embedding size, P = F(F−1)/2 pairs of fields, G = F−1 pairs of
one field, E the second field's embedding size (= D), K changing inputs of the MLP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from trainables.base import DropoutRate, Field, FieldValues, PositiveInt
from trainables.layers import MLP, EmbeddedCtrModel, NormalizationStart, Padding, field_pairs, item_columns


class InnerProducts(nn.Module):
    """The inner product ⟨v_i, v_j⟩ of each pair of fields i < j: [B, F, D] → [B, P] (§III-B)."""

    def forward(self, fields_BFD: Tensor) -> Tensor:
        """Return one number a pair, in the order (0, 1), (0, 2), …."""
        fields = fields_BFD.shape[1]
        first_P, second_P = torch.triu_indices(fields, fields, 1, device=fields_BFD.device)
        gram_BFF = torch.bmm(fields_BFD, fields_BFD.transpose(1, 2))
        return gram_BFF.flatten(1).index_select(1, first_P * fields + second_P)

    def factors(self, fields_BFD: Tensor, field: int) -> Tensor:
        """Return the vectors whose inner products with a field's embedding its pairs are [B, F − 1, D]."""
        return torch.cat([fields_BFD[:, :field], fields_BFD[:, field + 1 :]], dim=1)


class OuterProducts(nn.Module):
    """The outer product of each pair of fields i < j, weighted by a matrix of the pair: [B, F, D] → [B, P].

    Its weighted sum is v_iᵀ W_ij v_j, as in the authors' later paper (Qu et al., TOIS 2018) and in CVAR's program; the
    first paper adds up all pairs' outer products before it weights them (§III-C).
    """

    def __init__(self, fields: int, embedding_size: int) -> None:
        super().__init__()
        self.weight_PDE = nn.Parameter(torch.randn(fields * (fields - 1) // 2, embedding_size, embedding_size))

    def forward(self, fields_BFD: Tensor) -> Tensor:
        """Return one number a pair, in the order (0, 1), (0, 2), …."""
        first_BPD, second_BPE = field_pairs(fields_BFD)
        weighted_PBE = torch.bmm(first_BPD.transpose(0, 1), self.weight_PDE)
        products_BP: Tensor = torch.linalg.vecdot(weighted_PBE.transpose(0, 1), second_BPE)
        return products_BP

    def factors(self, fields_BFD: Tensor, field: int) -> Tensor:
        """Return the vectors whose inner products with a field's embedding its pairs are [B, F − 1, D]."""
        weight_GDE = self.weight_PDE[pairs_with(field, fields_BFD.shape[1])]
        before_BFE = torch.einsum("bgd,gde->bge", fields_BFD[:, :field], weight_GDE[:field])
        after_BFD = torch.einsum("bge,gde->bgd", fields_BFD[:, field + 1 :], weight_GDE[field:])
        return torch.cat([before_BFE, after_BFD], dim=1)


def pairs_with(field: int, fields: int) -> Tensor:
    """Return the positions of a field's pairs among all pairs (0, 1), (0, 2), …, by the other field, int64 [F − 1]."""
    pairs_2P = torch.triu_indices(fields, fields, 1)
    return (pairs_2P == field).any(dim=0).nonzero().flatten()


class PNN(EmbeddedCtrModel):
    """An MLP over the embeddings and the products of their pairs (§III-A).

    As in the program that CVAR was measured with: numbers are left out, one hidden layer without dropout, parameters
    start uniform in ±0.01.

    Args:
        fields: the input fields; exactly one has the role `item_id`.
        embedding_size: D.
        product: `inner` (IPNN) or `outer` (OPNN).
        hidden: sizes of the MLP's hidden layers, the first one being the paper's product layer (the release: one of
            16).
        dropout: after each hidden layer.
        padding: `masked` leaves a sequence's padding out, `summed` adds the padding's row (the release).
        normalization_start: BatchNorm's scales and shifts start `standard`, at 1 and 0, or `uniform` in ±0.01 like all
            else (the release).
    """

    def __init__(
        self,
        fields: Sequence[Field],
        *,
        embedding_size: PositiveInt = 16,
        product: Literal["inner", "outer"] = "inner",
        hidden: tuple[PositiveInt, ...] = (16,),
        dropout: DropoutRate = 0.0,
        padding: Padding = "masked",
        normalization_start: NormalizationStart = "standard",
    ) -> None:
        super().__init__(fields, embedding_size=embedding_size, padding=padding)
        embedded = len(self.embeddings.embedded)
        self.products: InnerProducts | OuterProducts = (
            OuterProducts(embedded, embedding_size) if product == "outer" else InnerProducts()
        )
        self.mlp = MLP(embedded * embedding_size + embedded * (embedded - 1) // 2, hidden, dropout)
        self.initialize(normalization_start)

    def interact(self, values: FieldValues) -> Tensor:
        """Return logits [B]."""
        logits_B: Tensor = self.mlp(self._inputs(values))
        return logits_B

    def item_to_logits(self, values: FieldValues) -> Callable[[Tensor], Tensor]:
        """Return the function from item-ID embeddings [B, D] to logits [B], all other values staying as they are."""
        fields, size = values.embedded_BFD.shape[1:]
        factors_BGD = self.products.factors(values.embedded_BFD, values.item_field)
        item_pairs_G = fields * size + pairs_with(values.item_field, fields)
        columns_K = torch.cat([item_columns(values), item_pairs_G.to(factors_BGD.device)])
        deep = self.mlp.part_to_logits(self._inputs(values.without_item()), columns_K)

        def logits(item_BD: Tensor) -> Tensor:
            products_BG = torch.bmm(factors_BGD, item_BD.unsqueeze(2)).squeeze(2)
            return deep(torch.cat([item_BD, products_BG], dim=1))

        return logits

    def _inputs(self, values: FieldValues) -> Tensor:
        return torch.cat([values.embedded_BFD.flatten(1), self.products(values.embedded_BFD)], dim=1)
