"""The adaptive factorization network (Cheng, Shen & Huang, AAAI 2020).

Legend: B rows of a batch, F embedded fields, N numeric fields, D embedding size, H logarithmic neurons.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainables.base import DropoutRate, Field, FieldValues, PositiveInt
from trainables.layers import MLP, EmbeddedCtrModel, NormalizationStart, Padding
from trainables.workers import BatchNorm

SMALLEST = 1e-4
"""Below this an embedding's absolute value counts as this, so that its logarithm stays finite (authors' program)."""


class LogarithmicNeurons(nn.Module):
    """Neurons Π_i |v_i|^{w_hi}, computed as exp(Σ_i w_hi ln |v_i|): [B, F, D] → [B, H, D].

    The paper's logarithmic transformation layer. BatchNorm normalizes the logarithms of each field, and the outputs of
    each neuron (authors' program).
    """

    def __init__(self, fields: int, neurons: int) -> None:
        super().__init__()
        self.weight_HF = nn.Parameter(torch.randn(neurons, fields))
        self.normalize_fields = BatchNorm(fields)
        self.normalize_neurons = BatchNorm(neurons)

    def forward(self, fields_BFD: Tensor) -> Tensor:
        """Return the neurons' outputs."""
        logarithms_BFD = self.normalize_fields(fields_BFD.abs().clamp(min=SMALLEST).log())
        outputs_BHD: Tensor = self.normalize_neurons((self.weight_HF @ logarithms_BFD).exp())
        return outputs_BHD


class ReleasedLogarithmicNeurons(nn.Module):
    """Neurons ReLU(exp(Σ_i w_hi ln(1 + |v_i|)) − 1), as in CVAR's program: [B, F, D] → [B, H, D]."""

    def __init__(self, fields: int, neurons: int) -> None:
        super().__init__()
        self.weight_HF = nn.Parameter(torch.randn(neurons, fields))

    def forward(self, fields_BFD: Tensor) -> Tensor:
        """Return the neurons' outputs."""
        return F.relu((self.weight_HF @ fields_BFD.abs().log1p()).expm1())


class AFN(EmbeddedCtrModel):
    """An MLP over products of powers of the embeddings, the powers being learned.

    As in the program that CVAR was measured with: numbers enter a linear term alone, parameters start uniform in ±0.01.

    Args:
        fields: the input fields; exactly one has the role `item_id`.
        embedding_size: D.
        neurons: H (the release: 1,500).
        hidden: sizes of the MLP's hidden layers (paper and release: three of 400).
        dropout: after each hidden layer.
        variant: the logarithms of the `paper`, or those of the program that CVAR was measured with, `released`.
        padding: `masked` leaves a sequence's padding out, `summed` adds the padding's row (the release).
        normalization_start: BatchNorm's scales and shifts start `standard`, at 1 and 0, or `uniform` in ±0.01 like all
            else (the release).
    """

    def __init__(
        self,
        fields: Sequence[Field],
        *,
        embedding_size: PositiveInt = 16,
        neurons: PositiveInt = 1500,
        hidden: tuple[PositiveInt, ...] = (400, 400, 400),
        dropout: DropoutRate = 0.0,
        variant: Literal["paper", "released"] = "paper",
        padding: Padding = "masked",
        normalization_start: NormalizationStart = "standard",
    ) -> None:
        super().__init__(fields, embedding_size=embedding_size, padding=padding)
        layer = LogarithmicNeurons if variant == "paper" else ReleasedLogarithmicNeurons
        self.logarithmic = layer(len(self.embeddings.embedded), neurons)
        self.linear = nn.Linear(len(self.embeddings.numbers), 1, bias=False)
        self.mlp = MLP(neurons * embedding_size, hidden, dropout)
        self.initialize(normalization_start)

    def interact(self, values: FieldValues) -> Tensor:
        """Return logits [B]."""
        linear_B: Tensor = self.linear(values.numbers_BN).squeeze(1)
        deep_B: Tensor = self.mlp(self.logarithmic(values.embedded_BFD).flatten(1))
        return linear_B + deep_B
