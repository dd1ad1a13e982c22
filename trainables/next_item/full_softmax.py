"""Cross-entropy over all items without ever holding a batch's scores.

Legend: B histories, C histories of a chunk, I items, D embedding size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_SCORES = 2**19
"""Scores held at a time, 2 MiB: what stays in a core's cache is several times cheaper than what does not."""


def full_softmax_loss(state_BD: Tensor, item_ID: Tensor, target_B: Tensor) -> Tensor:
    """Return the mean cross-entropy of the targets (rows of `item_ID`) under softmax(state · itemᵀ), a scalar.

    Equal to `cross_entropy(state @ item.T, target)` up to rounding. The gradients are computed along with the loss,
    a chunk of histories at a time.
    """
    loss: Tensor = _FullSoftmaxLoss.apply(state_BD, item_ID, target_B)  # type: ignore[no-untyped-call]
    return loss


class _FullSoftmaxLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, state_BD: Tensor, item_ID: Tensor, target_B: Tensor) -> Tensor:
        state_gradient_BD = torch.empty_like(state_BD)
        item_gradient_ID = torch.zeros_like(item_ID) if ctx.needs_input_grad[1] else None
        chunk = max(1, CHUNK_SCORES // len(item_ID))
        scores = state_BD.new_empty(min(chunk, len(state_BD)), len(item_ID))
        loss = state_BD.new_zeros(())
        for start in range(0, len(state_BD), chunk):
            state_CD = state_BD[start : start + chunk]
            target_C1 = target_B[start : start + chunk, None].long()
            score_CI = torch.mm(state_CD, item_ID.T, out=scores[: len(state_CD)])
            score_CI -= score_CI.amax(1, keepdim=True)
            loss -= score_CI.gather(1, target_C1).sum()
            total_C1 = score_CI.exp_().sum(1, keepdim=True)
            loss += total_C1.log().sum()
            # From here the scores are the loss's gradient with respect to them.
            score_CI /= total_C1 * len(state_BD)
            score_CI.scatter_add_(1, target_C1, score_CI.new_full(target_C1.shape, -1 / len(state_BD)))
            torch.mm(score_CI, item_ID, out=state_gradient_BD[start : start + chunk])
            if item_gradient_ID is not None:
                item_gradient_ID.addmm_(score_CI.T, state_CD)
        ctx.gradients = state_gradient_BD, item_gradient_ID
        return loss / len(state_BD)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, loss_gradient: Tensor) -> tuple[Tensor, Tensor | None, None]:
        state_gradient_BD, item_gradient_ID = ctx.gradients
        scaled_ID = None if item_gradient_ID is None else item_gradient_ID * loss_gradient
        return state_gradient_BD * loss_gradient, scaled_ID, None
