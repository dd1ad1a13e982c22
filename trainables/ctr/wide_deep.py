"""Wide & Deep (Cheng et al., DLRS 2016).

Legend: B rows of a batch, F embedded fields, N numeric fields, D embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn

from trainables.base import DropoutRate, Field, FieldValues, PositiveInt
from trainables.layers import MLP, EmbeddedCtrModel, NormalizationStart, Padding, item_columns


class WideDeep(EmbeddedCtrModel):
    """A linear model beside an MLP over the embeddings, their logits added (§3.3, Eq. 3).

    As in the program that CVAR was measured with: the wide part is the numbers' linear term alone, without first-order
    weights or crossed categories; the deep part does not see the numbers; parameters start uniform in ±0.01.

    Args:
        fields: the input fields; exactly one has the role `item_id`.
        embedding_size: D.
        hidden: sizes of the MLP's hidden layers (CSDM §Experimental settings: two of 16).
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
        hidden: tuple[PositiveInt, ...] = (16, 16),
        dropout: DropoutRate = 0.2,
        padding: Padding = "masked",
        normalization_start: NormalizationStart = "standard",
    ) -> None:
        super().__init__(fields, embedding_size=embedding_size, padding=padding)
        self.linear = nn.Linear(len(self.embeddings.numbers), 1, bias=False)
        self.mlp = MLP(len(self.embeddings.embedded) * embedding_size, hidden, dropout)
        self.initialize(normalization_start)

    def interact(self, values: FieldValues) -> Tensor:
        """Return logits [B]."""
        wide_B: Tensor = self.linear(values.numbers_BN).squeeze(1)
        deep_B: Tensor = self.mlp(values.embedded_BFD.flatten(1))
        return wide_B + deep_B

    def item_to_logits(self, values: FieldValues) -> Callable[[Tensor], Tensor]:
        """Return the function from item-ID embeddings [B, D] to logits [B], all other values staying as they are."""
        wide_B: Tensor = self.linear(values.numbers_BN).squeeze(1)
        deep = self.mlp.part_to_logits(values.without_item().embedded_BFD.flatten(1), item_columns(values))
        return lambda item_BD: wide_B + deep(item_BD)
