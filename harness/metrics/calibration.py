"""How far predicted probabilities are from observed rates. Legend: N rows, K bins that hold rows."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Bins = Literal["equal_width", "equal_rows"]


@dataclass(frozen=True)
class Reliability:
    """A reliability diagram by bins of rising probability: mean probability, share of positives, rows."""

    predicted: tuple[float, ...]
    observed: tuple[float, ...]
    rows: tuple[float, ...]


def diagram_of(reliability_3K: NDArray[Any]) -> Reliability:
    """Return what `reliability` gave by names."""
    predicted, observed, rows = (tuple(map(float, part_K)) for part_K in reliability_3K)
    return Reliability(predicted, observed, rows)


def reliability(
    probability_N: NDArray[Any], label_N: NDArray[Any], bins: int = 20, by: Bins = "equal_rows"
) -> NDArray[np.float64]:
    """Return the reliability diagram, float64 [3, K], K ≤ bins: mean probability, share of positives, rows.

    Bins are of `equal_width` in the probability, (0, 1/bins], …, 0 itself in the first; or, `equal_rows`, of equal
    numbers of rows up to one, by rising probability. Rows of one probability share a bin: that of their first row.
    Empty bins are left out.

    Raises:
        ValueError: no bin, the lengths differ, a probability is NaN or outside 0…1, or a label is neither 0 nor 1.
    """
    probability_N = np.asarray(probability_N, dtype=np.float64)
    label_N = np.asarray(label_N)
    if bins < 1:
        raise ValueError(f"{bins} bins: a reliability diagram needs at least one")
    if probability_N.ndim != 1 or probability_N.shape != label_N.shape:
        shapes = f"probabilities {probability_N.shape} and labels {label_N.shape}"
        raise ValueError(f"{shapes} must be two vectors of one length")
    if not ((probability_N >= 0) & (probability_N <= 1)).all():
        raise ValueError("probabilities must be numbers from 0 to 1; was the sigmoid left out?")
    if not ((label_N == 0) | (label_N == 1)).all():
        raise ValueError("labels must be 0 or 1")
    if by == "equal_width":
        bin_N = np.ceil(probability_N * bins).astype(np.int64).clip(1, bins) - 1
    else:
        below_N = np.searchsorted(np.sort(probability_N), probability_N, side="left")
        bin_N = below_N * bins // max(len(probability_N), 1)
    rows_K = np.bincount(bin_N, minlength=bins)
    total_K = np.bincount(bin_N, probability_N, minlength=bins)
    positive_K = np.bincount(bin_N, label_N, minlength=bins)
    held_K = rows_K > 0
    rows_K, total_K, positive_K = rows_K[held_K], total_K[held_K], positive_K[held_K]
    return np.stack([total_K / rows_K, positive_K / rows_K, rows_K.astype(np.float64)])


def expected_calibration_error(
    probability_N: NDArray[Any], label_N: NDArray[Any], bins: int = 20, by: Bins = "equal_rows"
) -> float:
    """Return the ECE, Σ_k rows_k/N · |mean probability_k − share of positives_k|; NaN without rows.

    Source: Naeini, Cooper, Hauskrecht 2015, with bins of equal numbers of rows; Guo et al. 2017 take bins of equal
    width, of which a click-through rate of a few percent fills only the first.

    Raises:
        ValueError: see `reliability`.
    """
    mean_K, share_K, rows_K = reliability(probability_N, label_N, bins, by)
    return float((rows_K * np.abs(mean_K - share_K)).sum() / rows_K.sum()) if len(rows_K) else math.nan
