"""DeepFM (Guo et al., IJCAI 2017).

Legend: B rows of a batch, F embedded fields, N numeric fields, D embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainables.base import DropoutRate, Field, FieldValues, PositiveInt
from trainables.layers import (
    MLP,
    EmbeddedCtrModel,
    NormalizationStart,
    NumberFields,
    Padding,
    item_columns,
    pairwise_interactions,
)


class DeepFM(EmbeddedCtrModel):
    """A factorization machine and an MLP over the same embeddings, their logits added.

    As in the programs that CVAR and CSDM (Table 1) were measured with: categories have no first-order weights, a
    number x is a field x·v beside a linear term, parameters start uniform in ±0.01.

    Args:
        fields: the input fields; exactly one has the role `item_id`.
        embedding_size: D.
        hidden: sizes of the MLP's hidden layers (CSDM §Experimental settings: two of 16).
        dropout: after each hidden layer.
        padding: `masked` leaves a sequence's padding out, `summed` adds the padding's row (the release).
        normalization_start: BatchNorm's scales and shifts start `standard`, at 1 and 0, or `uniform` in ±0.01 like all
            else (the release). The paper says nothing of it. On MovieLens-1M `uniform` needs the release's padding:
            with masked padding, two seeds lie 0.02 below Table 1's DeepFM; with `standard`, ten are within 0.003.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        *,
        embedding_size: PositiveInt = 16,
        hidden: tuple[PositiveInt, ...] = (16, 16),
        dropout: DropoutRate = 0.2,
        padding: Padding = "masked",
        normalization_start: NormalizationStart = "standard",
    ) -> None:
        super().__init__(fields, embedding_size=embedding_size, padding=padding)
        embedded, numbers = len(self.embeddings.embedded), len(self.embeddings.numbers)
        self.number_fields = NumberFields(numbers, embedding_size)
        self.linear = nn.Linear(numbers, 1)
        self.mlp = MLP((embedded + numbers) * embedding_size, hidden, dropout)
        self.initialize(normalization_start)

    def interact(self, values: FieldValues) -> Tensor:
        """Return logits [B]."""
        fields_BFD = self.number_fields.beside(values)
        linear_B: Tensor = self.linear(values.numbers_BN).squeeze(1)
        deep_B: Tensor = self.mlp(fields_BFD.flatten(1))
        return linear_B + pairwise_interactions(fields_BFD) + deep_B

    def item_to_logits(self, values: FieldValues) -> Callable[[Tensor], Tensor]:
        """Return the function from item-ID embeddings [B, D] to logits [B], all other values staying as they are."""
        others_BFD = self.number_fields.beside(values.without_item())
        wide_B = self.linear(values.numbers_BN).squeeze(1) + pairwise_interactions(others_BFD)
        sum_BD = others_BFD.sum(dim=1)
        deep = self.mlp.part_to_logits(others_BFD.flatten(1), item_columns(values))
        return lambda item_BD: wide_B + torch.linalg.vecdot(item_BD, sum_BD) + deep(item_BD)
