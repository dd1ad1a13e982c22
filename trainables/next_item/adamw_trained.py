"""What next-item models share that AdamW trains as a whole."""

from __future__ import annotations

import torch

from trainables.base import NextItemModel, NonNegativeFloat, PositiveFloat


class AdamWTrained(NextItemModel):
    """A next-item model all of whose parameters take AdamW's steps at one rate.

    Args:
        learning_rate: AdamW's.
        weight_decay: AdamW's.

    Source: PreferDiff D.2, which trains all methods of its comparison so.
    """

    def __init__(self, *, learning_rate: PositiveFloat = 1e-3, weight_decay: NonNegativeFloat = 0.0) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW over all parameters."""
        return torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=self.weight_decay, fused=True)
