"""The schedule of CSDM's bridge between ID embeddings and side information."""

from __future__ import annotations

import torch
from torch import Tensor


def csdm_schedule(steps: int = 100, beta: float = 1e-5) -> tuple[Tensor, Tensor]:
    """Return `alpha` and `c`, float64 [steps + 1], entry t for step t (CSDM eq. 11–12).

    α_t = (1 − β)^t falls from α_0 = 1; c_t = Σ_{k≤t} √(α_t/α_k) / Σ_{k≤T} √(α_t/α_k) rises from c_0 = 0 to c_T = 1.

    Raises:
        ValueError: fewer than one step, or β outside (0, 1).
    """
    if steps < 1 or not 0 < beta < 1:
        raise ValueError(f"steps {steps} and beta {beta}: give at least one step and a beta between 0 and 1")
    alpha = (1.0 - beta) ** torch.arange(steps + 1, dtype=torch.float64)
    partial = torch.cumsum(alpha[1:].rsqrt(), dim=0)  # √α_t cancels
    c = torch.cat([partial.new_zeros(1), partial / partial[-1]])
    return alpha, c
