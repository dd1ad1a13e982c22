"""CL4SRec (Xie et al. 2022) as PreferDiff's Table 1 compares with it.

Legend: B histories, V = 2B views of them, L positions, D embedding size.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.base import NonNegativeFloat, PositiveFloat, Probability, SequenceBatch
from trainables.next_item.augmentations import crop, mask, reorder
from trainables.next_item.sasrec import SASRec

CHANGES = crop, mask, reorder


class CL4SRec(SASRec):
    """SASRec, and a contrastive loss that brings two random views of a history together.

    A view is the history cropped, masked or reordered; both views of a batch's other histories are the negatives.
    Similarity is the dot product, without a projection, as in the paper. Parameters as in `SASRec`, but for

    Args:
        contrast: λ, the contrastive loss's weight.
        temperature: what similarities are divided by; the paper has none.
        crop_share: η, the share of a history that a crop keeps.
        mask_share: γ, the share of its items that are masked.
        reorder_share: β, the share of its items that are shuffled.
        variant: `paper` draws the change of each view for itself, so that a third of the pairs are of one kind.
            `released` follows SSLRec (github.com/HKUDS/SSLRec, models/sequential/cl4srec.py), which PreferDiff took
            over, in two things. The two changes always differ; and where the first one masks or reorders, the second
            is made on top of it, since the program changes the history itself. SASRec's `released` is no part of it:
            items that are scored are trained, as in SSLRec.

    The shares are SSLRec's, and were those of DuoRec's program before; PreferDiff prints none. An early SSLRec had 0.3,
    0.7 and 0.6, in a form that fails at the first mask. The contrastive loss of both variants is SSLRec's: temperature
    1, λ 0.1, a view's twin among all 2B − 1 other views, averaged over the 2B views. So is what becomes of a history of
    one item: with shares below 1 its views are the history.

    SSLRec's reorder is not followed: it writes the shuffled run two places before its own, so that items double and get
    lost, and fails where that would lie before the first position of a full history. What is not the contrast is
    PreferDiff D.2's; SSLRec has two layers that attend to both sides, weights that start at a deviation of 0.02, Adam,
    prefixes of a history as examples of their own, and the padding among the items that the softmax is over.

    Source: Xie et al. 2022, §3 (eq. 3–9); PreferDiff D.3 and Table 11; SSLRec for `released`.
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
        variant: Literal["paper", "released"] = "paper",
        **shared: Any,
    ) -> None:
        super().__init__(items, history_length, **shared)
        self.views = variant  # `variant` itself is SASRec's
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
        view_VD = self._encoded(self._views(batch))
        similarity_VV = (view_VD @ view_VD.T / self.temperature).fill_diagonal_(-torch.inf)
        twin_V = torch.arange(len(view_VD)).roll(len(batch))
        return functional.cross_entropy(similarity_VV, twin_V)

    def _views(self, batch: SequenceBatch) -> SequenceBatch:
        """Draw two views of each history; all first views come before all second ones."""
        first_B = torch.randint(len(CHANGES), (len(batch),))
        first = self._changed(batch, first_B)
        if self.views == "paper":
            return _joined(first, self._changed(batch, torch.randint(len(CHANGES), (len(batch),))))
        second_B = (first_B + torch.randint(1, len(CHANGES), (len(batch),))) % len(CHANGES)
        cropped_B1 = (first_B == CHANGES.index(crop)).unsqueeze(1)
        # Masks and new orders keep the length, and a crop alone is made in a copy.
        left_BL = torch.where(cropped_B1, batch.history_BL, first.history_BL)
        return _joined(first, self._changed(SequenceBatch(left_BL, batch.length_B, batch.target_B), second_B))

    def _changed(self, batch: SequenceBatch, kind_B: Tensor) -> SequenceBatch:
        """Make one of the three changes to each history."""
        changes = zip(CHANGES, self.shares, strict=True)
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
