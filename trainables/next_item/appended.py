"""Histories with one more item at their end.

Legend: B histories, L positions.
"""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor
from torch.nn import functional

from trainables.base import SequenceBatch


def with_item_appended(batch: SequenceBatch, item_B: Tensor) -> SequenceBatch:
    """Return the histories [B, L + 1] with one more item after the last real one; what was beyond it stays there."""
    longer_BL = functional.pad(batch.history_BL, (0, 1))
    last_B1 = batch.length_B.long().unsqueeze(1)
    longer_BL = longer_BL.scatter(1, last_B1, item_B.to(longer_BL.dtype).unsqueeze(1))
    return replace(batch, history_BL=longer_BL, length_B=batch.length_B + 1)
