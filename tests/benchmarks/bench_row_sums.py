"""Gradients of a table's touched rows: one sort and a bag of embeddings beside `unique` and a scatter, in turns.

The rows of a batch of 2,048 with sixteen categories, frequent ones more often, in a table of 400,000 rows; one thread.
Both give the same bits. Run as `python -m tests.benchmarks.bench_row_sums`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from trainables.layers import row_sums

ROWS, LOOKUPS, SIZE, TURNS = 400_000, 2048 * 16, 16, 60


def scattered(index_C: Tensor, grad_CD: Tensor) -> tuple[Tensor, Tensor]:
    """Return what `row_sums` returns, the plain way."""
    row_W, place_C = torch.unique(index_C, return_inverse=True)
    grad_WD = grad_CD.new_zeros(len(row_W), grad_CD.shape[1])
    return row_W, grad_WD.scatter_add_(0, place_C.unsqueeze(1).expand_as(grad_CD), grad_CD)


def main() -> None:
    torch.set_num_threads(1)
    seconds: dict[Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], list[float]] = {scattered: [], row_sums: []}
    for _ in range(TURNS):
        index_C, grad_CD = (torch.rand(LOOKUPS) ** 4 * ROWS).long(), torch.randn(LOOKUPS, SIZE)
        for way, found in seconds.items():
            begin = time.perf_counter()
            way(index_C, grad_CD)
            found.append(time.perf_counter() - begin)
    plain, fast = (statistics.median(found) for found in seconds.values())
    print(
        f"gradients of touched rows: {1e3 * fast:.2f} ms, plain {1e3 * plain:.2f} ms: {plain / fast:.1f} times as fast"
    )


if __name__ == "__main__":
    main()
