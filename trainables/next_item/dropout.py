"""Dropout that spends little on random numbers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

LEVELS = 2**16


def dropout(x: Tensor, rate: float, training: bool) -> Tensor:
    """Zero each element with probability `rate` and scale the others to keep the mean, in training alone.

    As torch's, but with 16 random bits an element where torch draws at least 32, one at a time: a third of the time
    on CPU. The rate is rounded to the next 1/65,536.
    """
    if not training or rate == 0:
        return x
    dropped = round(rate * LEVELS)
    bits = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int64, device=x.device).random_(-(2**63), None)
    kept = bits.view(torch.int16)[: x.numel()].view(x.shape) >= dropped - LEVELS // 2
    return (x * kept).mul_(LEVELS / (LEVELS - dropped))
