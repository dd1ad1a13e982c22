"""CL4SRec (Xie et al. 2022) as PreferDiff's Table 1 compares with it.

Legend: B histories, V = 2B views of them, L positions, D embedding size.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.base import NonNegativeFloat, PositiveFloat, Probability, SequenceBatch
from trainables.next_item.augmentations import crop, mask, reorder
from trainables.next_item.sasrec import SASRec


class CL4SRec(SASRec):
    """SASRec, and a contrastive loss that brings two random views of a history together.

    A view is the history cropped, masked or reordered, drawn for each view; views of a batch's other histories are
    the negatives. Similarity is the dot product, without a projection, as in the paper. Parameters as in `SASRec`, and

    Args:
        contrast: λ, the contrastive loss's weight.
        temperature: what similarities are divided by; the paper has none.
        crop_share: η, the share of a history that a crop keeps.
        mask_share: γ, the share of its items that are masked.
        reorder_share: β, the share of its items that are shuffled.

    Source: Xie et al. 2022, §3 (eq. 3–9); PreferDiff D.3 and Table 11.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        *,
        contrast: NonNegativeFloat = 0.1,
        temperature: PositiveFloat = 1.0,
        crop_share: Probability = 0.6,
        mask_share: Probability = 0.3,
        reorder_share: Probability = 0.6,
        **shared: Any,
    ) -> None:
        super().__init__(items, history_length, **shared)
        self.contrast = contrast
        self.temperature = temperature
        self.shares = crop_share, mask_share, reorder_share
        self.mask_D = nn.Parameter(torch.randn(self.embedding.weight.shape[1]))

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return SASRec's loss plus λ times the contrastive one (eq. 9)."""
        loss = super().loss(batch)
        return loss + self.contrast * self._contrastive_loss(batch) if self.contrast else loss

    def _contrastive_loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean over all views of the cross-entropy of a view's twin among all other views (eq. 3)."""
        view_VD = self._encoded(_joined(self._view(batch), self._view(batch)))
        similarity_VV = (view_VD @ view_VD.T / self.temperature).fill_diagonal_(-torch.inf)
        twin_V = torch.arange(len(view_VD)).roll(len(batch))
        return functional.cross_entropy(similarity_VV, twin_V)

    def _view(self, batch: SequenceBatch) -> SequenceBatch:
        """Draw one of the three changes for each history."""
        kind_B = torch.randint(3, (len(batch),))
        changes = zip((crop, mask, reorder), self.shares, strict=True)
        views = [change(batch.history_BL, batch.length_B, share) for change, share in changes]
        history_BL = torch.stack([history for history, _ in views])[kind_B, torch.arange(len(batch))]
        length_B = torch.stack([length for _, length in views])[kind_B, torch.arange(len(batch))]
        return SequenceBatch(history_BL, length_B, batch.target_B)

    def _encoded(self, views: SequenceBatch) -> Tensor:
        item_VLD = self.embedding.histories(views)
        masked_VL = views.history_BL == 0  # padding too, which the encoder leaves out
        state_VD: Tensor = self.encoder(torch.where(masked_VL.unsqueeze(-1), self.mask_D, item_VLD), views.length_B)
        return state_VD


def _joined(first: SequenceBatch, second: SequenceBatch) -> SequenceBatch:
    pairs = zip(
        (first.history_BL, first.length_B, first.target_B),
        (second.history_BL, second.length_B, second.target_B),
        strict=True,
    )
    return SequenceBatch(*(torch.cat(pair) for pair in pairs))
