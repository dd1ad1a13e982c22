"""The choice of a sequence encoder by name."""

from __future__ import annotations

from typing import Literal

from trainables.next_item.gru import GRUEncoder
from trainables.next_item.matrix_weight import MatrixWeight, Precision
from trainables.next_item.transformer import TransformerEncoder

EncoderName = Literal["transformer", "gru"]


class RecurrentEncoder(GRUEncoder):
    """A `GRUEncoder` under a diffusion model; its weights are torch's own, float32 and stepped like any other."""

    def __init__(self, size: int, history_length: int, dropout: float = 0.1) -> None:
        super().__init__(size, history_length, dropout)
        self.matrices: dict[str, MatrixWeight] = {}


def build_encoder(
    name: EncoderName, size: int, history_length: int, dropout: float, heads: int, precision: Precision
) -> TransformerEncoder | RecurrentEncoder:
    """Return the encoder of this name; heads and precision are the transformer's alone."""
    if name == "gru":
        return RecurrentEncoder(size, history_length, dropout)
    return TransformerEncoder(size, history_length, dropout, heads, precision)
