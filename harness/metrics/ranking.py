"""Full ranking over all items. Legend: B histories of a batch, I items, N test users."""

from __future__ import annotations

import math

import torch
from torch import Tensor

BUFFER_ELEMENTS = 400_000


def ranks(scores_BI: Tensor, target_B: Tensor) -> Tensor:
    """Return the rank of each target among all items, 1 for the best, int64 [B].

    Column j scores item id j + 1. Ties are broken pessimistically: every other item with the target's score ranks
    before it, so a model that scores all items alike gets the last rank. A NaN counts as before every target, and
    a target whose own score is NaN gets rank I.

    Raises:
        ValueError: the shapes do not fit, or a target is not an item id from 1 to I.
    """
    if scores_BI.ndim != 2 or target_B.shape != scores_BI.shape[:1]:
        shapes = f"scores {tuple(scores_BI.shape)} and targets {tuple(target_B.shape)}"
        raise ValueError(f"{shapes} must be [B, I] and [B]")
    items = scores_BI.shape[1]
    column_B = target_B.long() - 1
    if len(column_B) and not 0 <= int(column_B.min()) <= int(column_B.max()) < items:
        raise ValueError(f"targets {int(target_B.min())}…{int(target_B.max())} must be item ids from 1 to {items}")
    target_score_B1 = scores_BI.gather(1, column_B.unsqueeze(1))
    # Comparisons with NaN are false, so whatever is not clearly below the target counts as before it.
    return items - _count_below(scores_BI, target_score_B1)


def _count_below(scores_BI: Tensor, bound_B1: Tensor) -> Tensor:
    """Return how many scores of each row are below its bound, int64 [B].

    Comparisons go into a small buffer of floats that stays in the cache, because summing booleans, or a whole matrix
    of comparisons, takes several times as long. float32 counts exactly up to 2^24, float64 beyond.
    """
    batch, items = scores_BI.shape
    rows = max(1, BUFFER_ELEMENTS // max(1, items))
    dtype = torch.float32 if items <= 2**24 else torch.float64
    buffer = torch.empty((min(rows, batch), items), dtype=dtype, device=scores_BI.device)
    count_B = torch.empty(batch, dtype=torch.int64, device=scores_BI.device)
    for start in range(0, batch, rows):
        part_BI = scores_BI[start : start + rows]
        below_BI = torch.lt(part_BI, bound_B1[start : start + rows], out=buffer[: len(part_BI)])
        count_B[start : start + rows] = below_BI.sum(dim=1)
    return count_B


def recall_by_user(rank_N: Tensor, k: int) -> Tensor:
    """Return 1 where the target is among the first k, else 0; float64 [N].

    Raises:
        ValueError: k is below 1.
    """
    _check(k)
    return (rank_N <= k).double()


def ndcg_by_user(rank_N: Tensor, k: int) -> Tensor:
    """Return 1 / log2(rank + 1) where the target is among the first k, else 0; float64 [N]. One target: IDCG is 1.

    Raises:
        ValueError: k is below 1.
    """
    _check(k)
    gain_K = 1 / torch.log2(torch.arange(1, k + 2, dtype=torch.float64) + 1)
    gain_K[k] = 0  # every rank beyond k
    return gain_K.to(rank_N.device)[rank_N.long().clamp(max=k + 1) - 1]


def recall_at(rank_N: Tensor, k: int) -> float:
    """Return Recall@k of 1-based ranks: the share of users whose target is among the first k; NaN without users.

    Raises:
        ValueError: k is below 1.
    """
    return _mean(recall_by_user(rank_N, k))


def ndcg_at(rank_N: Tensor, k: int) -> float:
    """Return NDCG@k of 1-based ranks, one target a user; NaN without users.

    Raises:
        ValueError: k is below 1.
    """
    return _mean(ndcg_by_user(rank_N, k))


def _mean(value_N: Tensor) -> float:
    return float(value_N.mean()) if len(value_N) else math.nan


def _check(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, not {k}")
