"""Cross-entropy over all items that holds few scores at a time, and each of them once.

Legend: B histories, C histories of a chunk, I items, D embedding size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_SCORES = 2**22
"""Scores held at a time, 16 MiB: fewer histories make the matrix products slower, more leave the cache."""

BLOCK_ITEMS = 8192
"""Items of a matrix product: on a CPU, thin products are faster in blocks."""

SAFE_TOTALS = 1e-20, 1e30
"""Between these a sum of exponentials has lost nothing: float32 goes from 1e-38 to 1e38."""


def full_softmax_loss(state_BD: Tensor, item_ID: Tensor, target_B: Tensor, bias_I: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy of the targets (rows of `item_ID`) under softmax(state · itemᵀ + bias), a scalar.

    Equal to `cross_entropy(state @ item.T + bias, target)` up to rounding. The gradients are computed along with the
    loss, a chunk of histories at a time.
    """
    loss: Tensor = _FullSoftmaxLoss.apply(state_BD, item_ID, target_B, bias_I)  # type: ignore[no-untyped-call]
    return loss


class _FullSoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state_BD: Tensor, item_ID: Tensor, target_B: Tensor, bias_I: Tensor | None) -> Tensor:
        count, items = len(state_BD), len(item_ID)
        target_B, target_BD = target_B.long(), item_ID[target_B.long()]
        gradient_BD = torch.empty_like(state_BD)
        gradient_ID = torch.empty_like(item_ID) if ctx.needs_input_grad[1] else None
        gradient_I = torch.empty_like(bias_I) if bias_I is not None and ctx.needs_input_grad[3] else None
        loss = -(target_BD * state_BD).sum() - (0 if bias_I is None else bias_I[target_B].sum())
        room = state_BD.new_empty(_rows_of_chunk(count, items) * items)
        for rows in _chunks(count, items):
            state_CD, added = state_BD[rows], float(rows.start > 0)
            # Items by histories: all three products are faster than on the scores' transpose.
            exponential_IC = room[: items * len(state_CD)].view(items, -1)
            total_C, shift_C = _exponentials(state_CD, item_ID, bias_I, exponential_IC)
            loss += (total_C.log() + shift_C).sum()
            # Small tensors are divided by the totals, in place of all scores.
            share_C1 = total_C.reciprocal().unsqueeze(1) / count
            weighted_CD, gradient_CD = state_CD * share_C1, gradient_BD[rows]
            for block in _blocks(items):
                gradient_CD.addmm_(exponential_IC[block].T, item_ID[block], beta=float(block.start > 0))
                if gradient_ID is not None:
                    gradient_ID[block].addmm_(exponential_IC[block], weighted_CD, beta=added)
            gradient_CD.mul_(share_C1)
            if gradient_I is not None:
                torch.addmv(gradient_I, exponential_IC, share_C1.squeeze(1), beta=added, out=gradient_I)
        gradient_BD.sub_(target_BD, alpha=1 / count)
        if gradient_ID is not None:
            gradient_ID.index_add_(0, target_B, state_BD, alpha=-1 / count)
        if gradient_I is not None:
            gradient_I.index_add_(0, target_B, gradient_I.new_full((count,), -1 / count))
        ctx.gradients = gradient_BD, gradient_ID, gradient_I
        return loss / count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor) -> tuple[Tensor | None, ...]:
        state, item, bias = (None if one is None else _times(one, loss_gradient) for one in ctx.gradients)
        # Whoever adds to these gradients may do so in place once nothing else holds them.
        ctx.gradients = None
        return state, item, None, bias


def _exponentials(
    state_CD: Tensor, item_ID: Tensor, bias_I: Tensor | None, out_IC: Tensor
) -> tuple[Tensor, Tensor | float]:
    """Fill `out_IC` with exp(score − shift), and return its sums over the items [C] and the shift, 0 or [C].

    Scores are not shifted by their highest, which takes two passes over them, unless sums without that are unsafe.
    """
    for block in _blocks(len(item_ID)):
        _scores(state_CD, item_ID, bias_I, block, out_IC).exp_()
    # A product with ones is faster than torch's sum over rows.
    total_C = torch.mv(out_IC.T, out_IC.new_ones(len(out_IC)))
    lowest, highest = SAFE_TOTALS
    if bool(((total_C > lowest) & (total_C < highest)).all()):
        return total_C, 0.0
    for block in _blocks(len(item_ID)):
        _scores(state_CD, item_ID, bias_I, block, out_IC)
    shift_C = out_IC.amax(0)
    return out_IC.sub_(shift_C).exp_().sum(0), shift_C


def _scores(state_CD: Tensor, item_ID: Tensor, bias_I: Tensor | None, block: slice, out_IC: Tensor) -> Tensor:
    """Write a block's rows of state · itemᵀ + bias into `out_IC`, and return them."""
    score_IC = torch.mm(item_ID[block], state_CD.T, out=out_IC[block])
    return score_IC if bias_I is None else score_IC.add_(bias_I[block].unsqueeze(1))


def _times(gradient: Tensor, loss_gradient: Tensor) -> Tensor:
    return gradient if float(loss_gradient) == 1 else gradient * loss_gradient


def _rows_of_chunk(rows: int, items: int) -> int:
    """Return the rows of a chunk when all chunks are about equal."""
    chunks = math.ceil(rows / max(1, CHUNK_SCORES // items))
    return math.ceil(rows / chunks)


def _chunks(rows: int, items: int) -> list[slice]:
    count = _rows_of_chunk(rows, items)
    return [slice(start, min(start + count, rows)) for start in range(0, rows, count)]


def _blocks(items: int) -> list[slice]:
    return [slice(start, min(start + BLOCK_ITEMS, items)) for start in range(0, items, BLOCK_ITEMS)]
