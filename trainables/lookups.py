"""Sums of table rows that are looked up many times: sorted once, so that each use and each gradient is one pass.

Legend: N sums, L looked-up rows of all sums, V rows of a table, W of them that occur, D embedding size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainables.rowwise_adam import has_row_gradients, row_gradient


class Lookup(NamedTuple):
    """Which rows of a table each sum adds up, in both directions.

    Sum n adds the rows `index_L[first_N1[n]:first_N1[n + 1]]`. Turned round, for the gradient, row `row_W[w]` of the
    table goes into the sums `sum_L[first_W1[w]:first_W1[w + 1]]`. All int64; `rows` is V.
    """

    index_L: Tensor
    first_N1: Tensor
    row_W: Tensor
    sum_L: Tensor
    first_W1: Tensor
    rows: int


def lookup(index_L: Tensor, sum_L: Tensor, sums: int, rows: int) -> Lookup:
    """Prepare a lookup of the rows `index_L`, each for the sum `sum_L` of the same place, ascending, both int64."""
    order_L = torch.argsort(index_L, stable=True)
    row_W, count_W = torch.unique_consecutive(index_L[order_L], return_counts=True)
    return Lookup(
        index_L, _starts(torch.bincount(sum_L, minlength=sums)), row_W, sum_L[order_L], _starts(count_W), rows
    )


def row_lookup(index_N: Tensor, rows: int) -> Lookup:
    """Prepare a lookup of one row for each place."""
    return lookup(index_N, torch.arange(len(index_N), device=index_N.device), len(index_N), rows)


def looked_up(table_VD: Tensor, places: Lookup) -> Tensor:
    """Return the sums [N, D] of a table's rows; what adds up no row is zero."""
    sums_ND: Tensor = _LookedUp.apply(table_VD, places)  # type: ignore[no-untyped-call]
    return sums_ND


def summed(table_VD: Tensor, places: Lookup) -> Tensor:
    """Return what `looked_up` does, without a history."""
    return _sums(table_VD, places.index_L, places.first_N1)


def summed_back(grad_ND: Tensor, places: Lookup, *, by_row: bool) -> Tensor:
    """Return the table's gradient [V, D] from that of the sums, or `by_row` that of the rows that occur."""
    grad_WD = _sums(grad_ND.contiguous(), places.sum_L, places.first_W1)
    if by_row:
        return row_gradient(places.row_W, grad_WD, places.rows)
    if len(places.row_W) == places.rows:
        return grad_WD
    return grad_ND.new_zeros(places.rows, grad_ND.shape[1]).index_copy_(0, places.row_W, grad_WD)


class _LookedUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table_VD: Tensor, places: Lookup) -> Tensor:
        ctx.places, ctx.by_row = places, has_row_gradients(table_VD)
        return summed(table_VD, places)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_ND: Tensor) -> tuple[Tensor, None]:
        return summed_back(grad_ND, ctx.places, by_row=ctx.by_row), None


def _sums(table_VD: Tensor, index_L: Tensor, first_N1: Tensor) -> Tensor:
    return torch.embedding_bag(table_VD, index_L, first_N1, mode=0, include_last_offset=True)[0]


def _starts(count: Tensor) -> Tensor:
    return torch.cat([count.new_zeros(1), count.cumsum(0)])
