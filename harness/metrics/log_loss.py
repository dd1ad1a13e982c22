"""Mean negative log-likelihood of click labels. Legend: N rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

CLIP = 1e-7
"""Probabilities are kept this far from 0 and 1: about the last float32 below 1."""


def log_loss(probability_N: NDArray[Any], label_N: NDArray[Any]) -> float:
    """Return the mean of -log p of the labels, in nats, with probabilities clipped by `CLIP`; NaN without rows.

    Raises:
        ValueError: the lengths differ, a probability is NaN or outside 0…1, or a label is neither 0 nor 1.
    """
    state = LogLossState()
    state.update(probability_N, label_N)
    return state.value()


@dataclass
class LogLossState:
    """The log loss of rows that arrive in parts: a float64 sum and a count."""

    total: float = 0.0
    rows: int = 0

    def update(self, probability_N: NDArray[Any], label_N: NDArray[Any]) -> None:
        """Add rows.

        Raises:
            ValueError: see `log_loss`.
        """
        probability_N = np.asarray(probability_N, dtype=np.float64)
        positive_N = np.asarray(label_N) == 1
        if probability_N.ndim != 1 or probability_N.shape != positive_N.shape:
            shapes = f"probabilities {probability_N.shape} and labels {positive_N.shape}"
            raise ValueError(f"{shapes} must be two vectors of one length")
        if not ((probability_N >= 0) & (probability_N <= 1)).all():
            raise ValueError("probabilities must be numbers from 0 to 1; was the sigmoid left out?")
        if not np.array_equal(~positive_N, np.asarray(label_N) == 0):
            raise ValueError("labels must be 0 or 1")
        likelihood_N = np.where(positive_N, probability_N, 1 - probability_N).clip(CLIP, 1 - CLIP)
        self.total -= float(np.log(likelihood_N).sum())
        self.rows += len(likelihood_N)

    def merge(self, other: LogLossState) -> None:
        """Add the rows of another state."""
        self.total += other.total
        self.rows += other.rows

    def value(self) -> float:
        """Return the mean over all rows so far; NaN without rows."""
        return self.total / self.rows if self.rows else math.nan
