"""Cross-entropy over all items that holds few scores at a time, and each of them once.

Legend: B histories, C histories of a chunk, I items, D embedding size.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_SCORES = 2**23
"""Scores held at a time, 32 MiB: fewer histories make the matrix products slower, more leave the last cache."""

BLOCK_ITEMS = 2048
"""Items of a matrix product: on a CPU, thin products are faster in blocks."""


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
            score_IC = room[: items * len(state_CD)].view(items, -1)
            for block in _blocks(items):
                torch.mm(item_ID[block], state_CD.T, out=score_IC[block])
            if bias_I is not None:
                score_IC += bias_I.unsqueeze(1)
            highest_C = score_IC.amax(0)
            total_C = score_IC.sub_(highest_C).exp_().sum(0)
            loss += (total_C.log() + highest_C).sum()
            # Small tensors are divided by the totals, in place of all scores.
            share_C1 = total_C.reciprocal().unsqueeze(1) / count
            weighted_CD, gradient_CD = state_CD * share_C1, gradient_BD[rows]
            for block in _blocks(items):
                gradient_CD.addmm_(score_IC[block].T, item_ID[block], beta=float(block.start > 0))
                if gradient_ID is not None:
                    gradient_ID[block].addmm_(score_IC[block], weighted_CD, beta=added)
            gradient_CD.mul_(share_C1)
            if gradient_I is not None:
                torch.addmv(gradient_I, score_IC, share_C1.squeeze(1), beta=added, out=gradient_I)
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
