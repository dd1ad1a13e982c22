"""The factorization machine (Rendle, ICDM 2010).

Legend: B rows of a batch, F embedded fields, N numeric fields, D embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from trainables.base import DropoutRate, Field, FieldValues, PositiveInt
from trainables.layers import EmbeddedCtrModel, NormalizationStart, NumberFields, Padding, pairwise_interactions


class FM(EmbeddedCtrModel):
    """A linear term and the inner products of all pairs of fields (Eq. 1).

    As in the program that CVAR was measured with: categories have no first-order weights, a number x is a field x·v
    beside a linear term, parameters start uniform in ±0.01.

    Args:
        fields: the input fields; exactly one has the role `item_id`.
        embedding_size: D.
        padding: `masked` leaves a sequence's padding out, `summed` adds the padding's row (the release).
        dropout: no effect, for want of a hidden layer; here so that a study can search it for every backbone.
        normalization_start: no effect, for want of a BatchNorm; here so that a table can set it for every backbone.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        *,
        embedding_size: PositiveInt = 16,
        padding: Padding = "masked",
        dropout: DropoutRate = 0.0,
        normalization_start: NormalizationStart = "standard",
    ) -> None:
        super().__init__(fields, embedding_size=embedding_size, padding=padding)
        numbers = len(self.embeddings.numbers)
        self.number_fields = NumberFields(numbers, embedding_size)
        self.linear = nn.Linear(numbers, 1)
        self.initialize(normalization_start)

    def interact(self, values: FieldValues) -> Tensor:
        """Return logits [B]."""
        linear_B: Tensor = self.linear(values.numbers_BN).squeeze(1)
        return linear_B + pairwise_interactions(self.number_fields.beside(values))

    def item_to_logits(self, values: FieldValues) -> Callable[[Tensor], Tensor]:
        """Return the function from item-ID embeddings [B, D] to logits [B], all other values staying as they are."""
        others = values.without_item()
        others_B = self.interact(others)
        sum_BD = self.number_fields.beside(others).sum(dim=1)
        return lambda item_BD: others_B + torch.linalg.vecdot(item_BD, sum_BD)
