"""Noise schedules: how much noise each step of a Gaussian forward process adds.

Legend: T steps of the process.
"""

from __future__ import annotations

import torch
from torch import Tensor


def linear_variances(steps: int, first: float, last: float) -> Tensor:
    """Return the variances β_1 … β_T, evenly spaced from `first` to `last`, float64 [T].

    Source: Ho, Jain, Abbeel 2020, §4; PreferDiff §4.1 takes 2,000 steps from 1e-4 to 0.02.

    Raises:
        ValueError: the variances would leave (0, 1).
    """
    if not (0 < first < 1 and 0 < last < 1):
        raise ValueError(f"noise schedule: variances {first} … {last} leave (0, 1); use e.g. 1e-4 and 0.02")
    return torch.linspace(first, last, steps, dtype=torch.float64)
