"""The attentional factorization machine (Xiao et al., IJCAI 2017).

Legend: B rows of a batch, F embedded fields, N numeric fields, D embedding size, P = G(G−1)/2 pairs of G = F + N
fields, A attention size.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from trainables.base import DropoutRate, Field, FieldValues, PositiveInt
from trainables.layers import Dropout, EmbeddedCtrModel, NormalizationStart, NumberFields, Padding, field_pairs


class AFM(EmbeddedCtrModel):
    """A factorization machine that weights each pair of fields by attention (§3).

    logit = w₀ + wᵀx + pᵀ Σ_{i<j} a_ij v_i⊙v_j, where a is the softmax over the pairs of hᵀ ReLU(W (v_i⊙v_j) + b).
    As in the program that CVAR was measured with: categories have no first-order weights, a number x is a field x·v
    beside a linear term, parameters start uniform in ±0.01.

    Args:
        fields: the input fields; exactly one has the role `item_id`.
        embedding_size: D.
        attention_size: A (the release: 16).
        dropout: of the attention weights, and of the weighted sum.
        padding: `masked` leaves a sequence's padding out, `summed` adds the padding's row (the release).
        normalization_start: no effect, for want of a BatchNorm; here so that a table can set it for every backbone.
    """

    def __init__(
        self,
        fields: Sequence[Field],
        *,
        embedding_size: PositiveInt = 16,
        attention_size: PositiveInt = 16,
        dropout: DropoutRate = 0.2,
        padding: Padding = "masked",
        normalization_start: NormalizationStart = "standard",
    ) -> None:
        super().__init__(fields, embedding_size=embedding_size, padding=padding)
        numbers = len(self.embeddings.numbers)
        self.number_fields = NumberFields(numbers, embedding_size)
        self.linear = nn.Linear(numbers, 1)
        self.attention = nn.Sequential(
            nn.Linear(embedding_size, attention_size),
            nn.ReLU(),
            nn.Linear(attention_size, 1, bias=False),
            nn.Softmax(dim=1),
            Dropout(dropout),
        )
        self.output = nn.Sequential(Dropout(dropout), nn.Linear(embedding_size, 1, bias=False))
        self.initialize(normalization_start)

    def interact(self, values: FieldValues) -> Tensor:
        """Return logits [B]."""
        first_BPD, second_BPD = field_pairs(self.number_fields.beside(values))
        product_BPD = first_BPD * second_BPD
        pooled_BD = (self.attention(product_BPD) * product_BPD).sum(dim=1)
        logits_B1: Tensor = self.linear(values.numbers_BN) + self.output(pooled_BD)
        return logits_B1.squeeze(1)
