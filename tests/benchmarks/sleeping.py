"""A model that only passes time: what a sweep adds to its trials is all that can be measured with it."""

from __future__ import annotations

import time

import torch
from torch import Tensor, nn

from trainables.base import NextItemModel, PositiveFloat, SequenceBatch


class Sleeping(NextItemModel):
    """Sleeps in its one training step; ranks items by a learned bias."""

    def __init__(self, items: int, history_length: int, *, seconds: PositiveFloat = 10.0, number: int = 0) -> None:
        super().__init__()
        self.seconds = seconds
        self.bias_I = nn.Parameter(torch.randn(items) + number)
        self.slept = False

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def loss(self, batch: SequenceBatch) -> Tensor:
        if not self.slept:
            time.sleep(self.seconds)
            self.slept = True
        return self.bias_I.square().mean()

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        return self.bias_I.expand(len(batch), -1)
