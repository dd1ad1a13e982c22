"""The parts of attention from few positions, an encoder's last one or BERT4Rec's masked ones, whose backward autograd
would spread over many passes.

Legend: B histories, L positions, D embedding size, H queries of a history (one a head and position), J = 2H.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainables.next_item.dropout import kept_elements


def positioned(
    embedded_BLD: Tensor, position_LD: Tensor, real_BL: Tensor, rate: float, training: bool
) -> tuple[Tensor, Tensor]:
    """Return dropout(embedded + position), zero where padded [B, L, D], and its last real positions [B, D]."""
    result: tuple[Tensor, Tensor] = _Positioned.apply(  # type: ignore[no-untyped-call]
        embedded_BLD, position_LD, real_BL, rate if training else 0.0
    )
    return result


def attended(
    x_BLD: Tensor, query_BHD: Tensor, real_BL: Tensor, scale: float, rate: float, training: bool
) -> tuple[Tensor, Tensor]:
    """Return Σ_l w_l · x_l [B, H, D] and Σ_l w_l [B, H], with w = dropout(softmax(scale · query · x)) over real l."""
    result: tuple[Tensor, Tensor] = _Attended.apply(  # type: ignore[no-untyped-call]
        x_BLD, query_BHD, real_BL, scale, rate if training else 0.0
    )
    return result


class _Positioned(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, embedded_BLD: Tensor, position_LD: Tensor, real_BL: Tensor, rate: float
    ) -> tuple[Tensor, Tensor]:
        x_BLD = embedded_BLD + position_LD
        kept_BLD, ctx.scale = _kept_of_real(x_BLD, real_BL, rate)
        x_BLD.mul_(kept_BLD)
        if ctx.scale != 1:
            x_BLD.mul_(ctx.scale)
        row_B, last_B = torch.arange(len(x_BLD), device=x_BLD.device), real_BL.sum(1) - 1
        ctx.save_for_backward(kept_BLD, row_B, last_B)
        return x_BLD, x_BLD[row_B, last_B]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BLD: Tensor, grad_last_BD: Tensor) -> tuple[Tensor, Tensor, None, None]:
        kept_BLD, row_B, last_B = ctx.saved_tensors
        dropped_BLD = grad_BLD * kept_BLD
        kept_last_BD = kept_BLD.expand_as(grad_BLD)[row_B, last_B]
        dropped_BLD[row_B, last_B] += grad_last_BD * kept_last_BD
        if ctx.scale != 1:
            dropped_BLD.mul_(ctx.scale)
        return dropped_BLD, dropped_BLD.sum(0), None, None


def _kept_of_real(x_BLD: Tensor, real_BL: Tensor, rate: float) -> tuple[Tensor, float]:
    """Draw which elements dropout keeps, none of padding, bool [B, L, D] or [B, L, 1], and what they are scaled with.

    Nothing is drawn for padding, which short histories have much of.
    """
    real_N = real_BL.flatten().nonzero().squeeze(1)
    kept_ND, scale = kept_elements(x_BLD.new_empty(len(real_N), x_BLD.shape[-1]), rate)
    if kept_ND is None:
        return real_BL[:, :, None], scale
    kept_BLD = real_BL.new_zeros(x_BLD.shape)
    kept_BLD.flatten(0, 1).index_copy_(0, real_N, kept_ND)
    return kept_BLD, scale


class _Attended(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x_BLD: Tensor, query_BHD: Tensor, real_BL: Tensor, scale: float, rate: float
    ) -> tuple[Tensor, Tensor]:
        score_BHL = (query_BHD @ x_BLD.transpose(1, 2)).mul_(scale)
        share_BHL = score_BHL.masked_fill_(~real_BL[:, None], -torch.inf).softmax(-1)
        kept_BHL, ctx.kept_scale = kept_elements(share_BHL, rate)
        weight_BHL = share_BHL if kept_BHL is None else (share_BHL * kept_BHL).mul_(ctx.kept_scale)
        ctx.scale = scale
        ctx.save_for_backward(x_BLD, query_BHD, share_BHL, weight_BHL, kept_BHL)
        return weight_BHL @ x_BLD, weight_BHL.sum(-1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BHD: Tensor, grad_sum_BH: Tensor) -> tuple[Tensor, Tensor, None, None, None]:
        x_BLD, query_BHD, share_BHL, weight_BHL, kept_BHL = ctx.saved_tensors
        grad_share_BHL = (grad_BHD @ x_BLD.transpose(1, 2)).add_(grad_sum_BH.unsqueeze(-1))
        if kept_BHL is not None:
            grad_share_BHL.mul_(kept_BHL).mul_(ctx.kept_scale)
        mean_BH1 = (grad_share_BHL * share_BHL).sum(-1, keepdim=True)
        grad_score_BHL = grad_share_BHL.sub_(mean_BH1).mul_(share_BHL).mul_(ctx.scale)
        # x is met twice, by the query and by the weights: both gradients in one product.
        coefficient_BJL = torch.cat([grad_score_BHL, weight_BHL], dim=1)
        row_BJD = torch.cat([query_BHD, grad_BHD], dim=1)
        return coefficient_BJL.transpose(1, 2) @ row_BJD, grad_score_BHL @ x_BLD, None, None, None
