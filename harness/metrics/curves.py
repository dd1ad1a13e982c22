"""ROC and precision-recall curves, thinned to what a plot can show. Legend: N rows, K points of a curve."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.metrics.auc import split_by_label


def roc_points(score_N: NDArray[Any], label_N: NDArray[Any], points: int = 201) -> NDArray[np.float32]:
    """Return false-positive rate (row 0) and true-positive rate (row 1), float32 [2, K], K ≤ points.

    The points lie on the exact curve, evenly along its path, from (0, 0) to (1, 1). With one class only, or no rows,
    there is no curve: K = 0.

    Raises:
        ValueError: fewer than two points, or as `auc`.
    """
    true_K, false_K = _counts_at_thresholds(score_N, label_N, points)
    if not (true_K[-1] and false_K[-1]):
        return np.empty((2, 0), dtype=np.float32)
    true_rate_K, false_rate_K = true_K / true_K[-1], false_K / false_K[-1]
    chosen = _evenly(true_rate_K + false_rate_K, points)
    return np.stack([false_rate_K[chosen], true_rate_K[chosen]]).astype(np.float32)


def precision_recall_points(score_N: NDArray[Any], label_N: NDArray[Any], points: int = 201) -> NDArray[np.float32]:
    """Return recall (row 0) and precision (row 1), float32 [2, K], K ≤ points.

    The points lie on the exact curve, evenly by recall, from recall 0 (precision 1, by convention) to recall 1.
    Without positives there is no curve: K = 0.

    Raises:
        ValueError: fewer than two points, or as `auc`.
    """
    true_K, false_K = _counts_at_thresholds(score_N, label_N, points)
    if not true_K[-1]:
        return np.empty((2, 0), dtype=np.float32)
    recall_K = true_K / true_K[-1]
    precision_K = np.divide(true_K, true_K + false_K, out=np.ones(len(true_K)), where=true_K + false_K > 0)
    chosen = _evenly(recall_K, points)
    return np.stack([recall_K[chosen], precision_K[chosen]]).astype(np.float32)


def _counts_at_thresholds(
    score_N: NDArray[Any], label_N: NDArray[Any], points: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return how many positives and negatives score at least each threshold: none first, then each distinct score."""
    if points < 2:
        raise ValueError(f"a curve needs at least 2 points, not {points}")
    positive_P, negative_Q = (np.sort(scores) for scores in split_by_label(score_N, label_N))
    threshold_K = np.unique(np.concatenate([positive_P, negative_Q]))[::-1]
    true_K = len(positive_P) - np.searchsorted(positive_P, threshold_K, side="left")
    false_K = len(negative_Q) - np.searchsorted(negative_Q, threshold_K, side="left")
    return np.concatenate([[0], true_K]), np.concatenate([[0], false_K])


def _evenly(path_K: NDArray[np.float64], points: int) -> NDArray[np.int64]:
    """Return at most `points` ascending indices evenly along an ascending path, from start to end."""
    wanted = np.linspace(path_K[0], path_K[-1], points)
    return np.unique(np.searchsorted(path_K, wanted, side="left").clip(max=len(path_K) - 1))
