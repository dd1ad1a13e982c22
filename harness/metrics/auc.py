"""Area under the ROC curve, exact with ties, and its standard error.

Legend: N rows, P positives, Q negatives.

Positives and negatives are sorted apart: two sorts of plain floats are several times faster than one argsort of all
rows, and what is left is to look each score of the smaller class up in the larger one.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

Scores = NDArray[np.floating[Any]]


def split_by_label(score_N: NDArray[Any], label_N: NDArray[Any]) -> tuple[Scores, Scores]:
    """Return the scores of the positives [P] and of the negatives [Q], unsorted.

    float32 and float64 scores keep their type, others become float64.

    Raises:
        ValueError: the lengths differ, a score is NaN, or a label is neither 0 nor 1.
    """
    score_N, label_N = np.asarray(score_N), np.asarray(label_N)
    if score_N.dtype not in (np.float32, np.float64):
        score_N = score_N.astype(np.float64)
    if score_N.ndim != 1 or score_N.shape != label_N.shape:
        raise ValueError(f"scores {score_N.shape} and labels {label_N.shape} must be two vectors of one length")
    if np.isnan(score_N).any():
        raise ValueError(f"{int(np.isnan(score_N).sum())} of {len(score_N)} scores are NaN; they cannot be ranked")
    positive_N = label_N == 1
    negative_N = ~positive_N
    if not np.array_equal(negative_N, label_N == 0):
        raise ValueError("labels must be 0 or 1")
    return score_N[positive_N], score_N[negative_N]


def auc(score_N: NDArray[Any], label_N: NDArray[Any]) -> float:
    """Return the probability that a positive outscores a negative, a tie counting one half.

    NaN where it is not defined: no rows at all, or rows of one class only.

    Raises:
        ValueError: see `split_by_label`.
    """
    return _auc_of_classes(*split_by_label(score_N, label_N))


def auc_standard_error(score_N: NDArray[Any], label_N: NDArray[Any]) -> float:
    """Return the standard error of the AUC over test rows; O(N log N).

    DeLong, DeLong & Clarke-Pearson (Biometrics 1988), by ranks as in Sun & Xu (IEEE SPL 2014): the variance of each
    class's placements among the other class, over the size of the class. NaN with fewer than two rows of a class.

    Raises:
        ValueError: see `split_by_label`.
    """
    positive_P, negative_Q = (np.sort(scores) for scores in split_by_label(score_N, label_N))
    if min(len(positive_P), len(negative_Q)) < 2:
        return math.nan
    placement_P = _twice_below(positive_P, negative_Q) / (2 * len(negative_Q))
    placement_Q = _twice_below(negative_Q, positive_P) / (2 * len(positive_P))
    variance = np.var(placement_P, ddof=1) / len(positive_P) + np.var(placement_Q, ddof=1) / len(negative_Q)
    return float(np.sqrt(variance))


class AucState:
    """The AUC of rows that arrive in parts, at one worker or several; merging loses nothing.

    It keeps every score (4 bytes a float32 row): an exact AUC needs them all.
    """

    def __init__(self) -> None:
        self._positive: list[Scores] = []
        self._negative: list[Scores] = []

    def update(self, score_N: NDArray[Any], label_N: NDArray[Any]) -> None:
        """Add rows.

        Raises:
            ValueError: see `split_by_label`.
        """
        positive_P, negative_Q = split_by_label(score_N, label_N)
        self._positive.append(positive_P)
        self._negative.append(negative_Q)

    def merge(self, other: AucState) -> None:
        """Add the rows of another state, which stays as it is."""
        self._positive.extend(other._positive)
        self._negative.extend(other._negative)

    def value(self) -> float:
        """Return the AUC of all rows so far, as `auc` would of all at once."""
        if not self._positive:
            return math.nan
        return _auc_of_classes(np.concatenate(self._positive), np.concatenate(self._negative))


def _auc_of_classes(positive_P: Scores, negative_Q: Scores) -> float:
    pairs = len(positive_P) * len(negative_Q)
    if pairs == 0:
        return math.nan
    positive_P, negative_Q = np.sort(positive_P), np.sort(negative_Q)
    # Halves stay whole numbers, so that the sum is exact and does not depend on the order of the rows.
    if len(positive_P) <= len(negative_Q):
        twice_won = int(_twice_below(positive_P, negative_Q).sum())
    else:
        twice_won = 2 * pairs - int(_twice_below(negative_Q, positive_P).sum())
    return twice_won / (2 * pairs)


def _twice_below(score_P: Scores, sorted_Q: Scores) -> NDArray[np.int64]:
    """Return for each score twice the number of sorted scores below it plus the number equal to it, int64 [P]."""
    below_P = np.searchsorted(sorted_Q, score_P, side="left")
    below_P += np.searchsorted(sorted_Q, score_P, side="right")
    return below_P
