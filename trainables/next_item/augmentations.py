"""Random changes of a history that leave the user's taste as it is: item crop, mask and reorder.

Legend: B histories, L positions. A history of n items has its first n positions real; in what comes back, an id 0
inside the length stands for a masked item, and beyond it for padding.

Source: Xie et al. 2022, §3.3 (eq. 6–8).
"""

from __future__ import annotations

import torch
from torch import Tensor


def crop(history_BL: Tensor, length_B: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Keep a run of ⌊share · n⌋ items, at least one, that starts anywhere; return histories and lengths."""
    position_L = torch.arange(history_BL.shape[1])
    kept_B = (length_B * share).long().clamp(min=1)
    start_B = _start(length_B, kept_B)
    index_BL = (start_B.unsqueeze(1) + position_L).clamp(max=history_BL.shape[1] - 1)
    cropped_BL = history_BL.gather(1, index_BL) * (position_L < kept_B.unsqueeze(1))
    return cropped_BL, kept_B.to(length_B.dtype)


def mask(history_BL: Tensor, length_B: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Mask ⌊share · n⌋ items anywhere; return histories and lengths."""
    padded_BL = torch.arange(history_BL.shape[1]) >= length_B.unsqueeze(1)
    draw_BL = torch.rand(history_BL.shape).masked_fill(padded_BL, 2)
    masked_BL = draw_BL.argsort(dim=1).argsort(dim=1) < (length_B * share).long().unsqueeze(1)
    return history_BL.masked_fill(masked_BL, 0), length_B


def reorder(history_BL: Tensor, length_B: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Shuffle a run of ⌊share · n⌋ items that starts anywhere; return histories and lengths."""
    position_L = torch.arange(history_BL.shape[1])
    count_B1 = (length_B * share).long().unsqueeze(1)
    start_B1 = _start(length_B, count_B1.squeeze(1)).unsqueeze(1)
    inside_BL = (position_L >= start_B1) & (position_L < start_B1 + count_B1)
    # Draws between the run's neighbours sort its items among themselves alone.
    draw_BL = start_B1 - 0.5 + torch.rand(history_BL.shape) * count_B1
    order_BL = torch.where(inside_BL, draw_BL, position_L).argsort(dim=1)
    return history_BL.gather(1, order_BL), length_B


def _start(length_B: Tensor, run_B: Tensor) -> Tensor:
    """Draw where a run of so many items starts, int64 [B]."""
    return (torch.rand(len(length_B)) * (length_B - run_B + 1)).long()
