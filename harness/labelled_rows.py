"""Training rows of which a share only has known labels: the others' are hidden, or their rows left out.

Legend: R rows of the dataset, S rows of a split, B rows of a batch.
"""

from __future__ import annotations

import copy

import numpy as np
import torch
from numpy.typing import NDArray

from harness.feed import ResidentRows
from trainables.base import CtrBatch


class LabelledRows(ResidentRows):
    """A split in which each row's label is known with the same probability, drawn once, by the row's number.

    With one seed, the rows that are known at a share are known at every larger one.
    """

    def __init__(self, rows: ResidentRows, share: float, seed: int) -> None:
        vars(self).update(vars(rows))
        last = int(self._row_S.max(initial=-1))
        self._known_R: NDArray[np.bool_] = np.random.default_rng(seed).random(last + 1) < share

    def labelled(self) -> ResidentRows:
        """Return the rows whose labels are known, and no others."""
        known = copy.copy(self)
        known._row_S = self._row_S[self._known_R[self._row_S]]
        return known

    def _batch(self, row_B: NDArray[np.int32]) -> CtrBatch:
        batch = super()._batch(row_B)
        known_B = torch.from_numpy(self._known_R[row_B])
        return CtrBatch(batch.columns, torch.where(known_B, batch.label_B, torch.nan))
