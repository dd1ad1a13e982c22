"""The row that stands at a place of the order by time and file, without sorting all rows anywhere.

Partitions count their values between some edges; the range in which the place lies is narrowed until it is one value.

Legend: R rows of a partition, N edges.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from harness.datasets.large.formats import Columns

_EDGES = 4096

Count = Callable[[NDArray[np.int64]], NDArray[np.int64]]
"""Returns how many values of all partitions are below each edge, int64 [N]."""


def count_below(edges: NDArray[np.int64], column: str, time: int | None, rows: Columns) -> NDArray[np.int64]:
    """Return how many values of a column are below each edge, int64 [N]; with a time, of the rows of that time only."""
    values_R = rows[column] if time is None else rows[column][rows["time"] == time]
    first_R = np.searchsorted(edges, values_R, side="right")  # a value is below the edges from this one on
    return np.bincount(first_R, minlength=len(edges) + 1).cumsum()[: len(edges)].astype(np.int64)


def select(count: Count, place: int, low: int, high: int) -> tuple[int, int]:
    """Return the value at a place of the sorted values, counted from 0, and how many values are below it.

    Args:
        count: counts all values, which lie in low … high.
        place: less than their number.
        low: the smallest value, or less.
        high: the largest value, or more.
    """
    below = 0
    while True:
        edges = np.arange(low, high + 1, (high - low) // _EDGES + 1, dtype=np.int64)
        counts = count(edges)
        last = int(np.searchsorted(counts, place, side="right")) - 1  # the last edge with at most `place` values below
        low, below = int(edges[last]), int(counts[last])
        if last + 1 < len(edges):
            high = int(edges[last + 1]) - 1
        if low == high:
            return low, below
