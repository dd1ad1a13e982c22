"""Deep & Cross Network (Wang et al., ADKDD 2017).

Legend: B rows of a batch, F embedded fields, D embedding size, X = F·D inputs, L cross layers, K = L + 1 vectors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainables.base import DropoutRate, Field, FieldValues, PositiveInt
from trainables.layers import MLP, EmbeddedCtrModel, NormalizationStart, Padding, item_columns


class CrossNetwork(nn.Module):
    """Layers x_{l+1} = x_0 (x_lᵀ w_l) + b_l + x_l (Eq. 3), and the output's weights for the last one: [B, X] → [B].

    Every x_l is x_0 times a number a_l, plus Σ_{k<l} b_k. So all layers together need x_0's products with the w_l and
    with the output's weights, one matrix product, and no x_l itself.
    """

    def __init__(self, inputs: int, layers: int) -> None:
        super().__init__()
        self.weight_LX = nn.Parameter(torch.randn(layers, inputs))
        self.bias_LX = nn.Parameter(torch.zeros(layers, inputs))
        self.output_X = nn.Parameter(torch.randn(inputs))

    def vectors(self) -> Tensor:
        """Return the vectors whose products with x_0 `logits` takes, the w_l and the output's weights [K, X]."""
        return torch.cat([self.weight_LX, self.output_X.unsqueeze(0)])

    def logits(self, products_BK: Tensor) -> Tensor:
        """Return logits [B] from x_0's products with the vectors."""
        shifts_KX = F.pad(self.bias_LX.cumsum(dim=0), (0, 0, 1, 0))
        shift_products_K = torch.linalg.vecdot(shifts_KX, self.vectors())
        *layer_products, output_product_B = products_BK.unbind(dim=1)
        a_B = torch.ones_like(output_product_B)
        for product_B, shift_product in zip(layer_products, shift_products_K[:-1], strict=True):
            a_B = a_B + a_B * product_B + shift_product
        logits_B: Tensor = a_B * output_product_B + shift_products_K[-1]
        return logits_B

    def forward(self, inputs_BX: Tensor) -> Tensor:
        """Return logits [B]."""
        return self.logits(F.linear(inputs_BX, self.vectors()))


class DCN(EmbeddedCtrModel):
    """A cross network beside an MLP over the embeddings, both under one linear output (§2.4).

    As in the program that CVAR was measured with: numbers are left out, parameters start uniform in ±0.01.

    Args:
        fields: the input fields; exactly one has the role `item_id`.
        embedding_size: D.
        cross_layers: L (the release: 3).
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
        cross_layers: PositiveInt = 3,
        hidden: tuple[PositiveInt, ...] = (16, 16),
        dropout: DropoutRate = 0.2,
        padding: Padding = "masked",
        normalization_start: NormalizationStart = "standard",
    ) -> None:
        super().__init__(fields, embedding_size=embedding_size, padding=padding)
        inputs = len(self.embeddings.embedded) * embedding_size
        self.cross = CrossNetwork(inputs, cross_layers)
        self.mlp = MLP(inputs, hidden, dropout)
        self.initialize(normalization_start)

    def interact(self, values: FieldValues) -> Tensor:
        """Return logits [B]."""
        inputs_BX = values.embedded_BFD.flatten(1)
        cross_B: Tensor = self.cross(inputs_BX)
        deep_B: Tensor = self.mlp(inputs_BX)
        return cross_B + deep_B

    def item_to_logits(self, values: FieldValues) -> Callable[[Tensor], Tensor]:
        """Return the function from item-ID embeddings [B, D] to logits [B], all other values staying as they are."""
        others_BX = values.without_item().embedded_BFD.flatten(1)
        vectors_XK = self.cross.vectors().T
        others_BK, item_DK = others_BX @ vectors_XK, vectors_XK.index_select(0, item_columns(values))
        deep = self.mlp.part_to_logits(others_BX, item_columns(values))
        return lambda item_BD: self.cross.logits(torch.addmm(others_BK, item_BD, item_DK)) + deep(item_BD)
