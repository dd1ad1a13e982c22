"""What the training rows of a next-item dataset hold, row by row.

Legend: L positions, N occurrences of items in all rows.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainables.base import SequenceSource

ROWS = 4096


def occurrences(train: SequenceSource) -> tuple[Tensor, Tensor]:
    """Return the items of all histories and targets, counted from 0, and the rows that hold them, int64 [N] each."""
    items, rows = [], []
    first = 0
    for batch in train.batches(ROWS):
        row_N, position_N = batch.real_positions().nonzero(as_tuple=True)
        items.append(torch.cat([batch.history_BL[row_N, position_N], batch.target_B]).long() - 1)
        rows.append(torch.cat([row_N, torch.arange(len(batch), device=row_N.device)]) + first)
        first += len(batch)
    return torch.cat(items), torch.cat(rows)
