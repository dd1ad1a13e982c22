"""Training rows of which a share only has known labels: the others' are hidden, or their rows left out.

Legend: R rows of the dataset, B rows of a batch, M distinct items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.errors import InputError
from harness.feed import ResidentRows
from trainables.base import CtrBatch, ItemTable


class LabelledRows:
    """A split in which each row's label is known with the same probability, drawn once, by the row's number.

    A `trainables.base.RowSource` of resident rows, whatever their dataset's layout. With one seed, the rows that are
    known at a share are known at every larger one.
    """

    def __init__(self, rows: ResidentRows, share: float, seed: int) -> None:
        self._rows = rows
        last = int(rows.row_numbers.max(initial=-1))
        self._known_R: NDArray[np.bool_] = np.random.default_rng(seed).random(last + 1) < share

    @property
    def items(self) -> ItemTable:
        """The items as this split may know them."""
        return self._rows.items

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Iterator[CtrBatch]:
        """Yield the batches of all rows, NaN standing for the labels that are hidden; see `RowSource`."""
        for row_B in self._rows.row_batches(batch_size, shuffle_seed=shuffle_seed, skip=skip):
            batch = self._rows.batch(row_B)
            known_B = torch.from_numpy(self._known_R[row_B])
            yield CtrBatch(batch.columns, torch.where(known_B, batch.label_B, torch.nan))

    def distinct_items(self) -> Tensor:
        """Return the ids of the items that occur here, ascending, int64 [M]."""
        return self._rows.distinct_items()

    def item_quarters(self, seed: int) -> NoReturn:
        """Refuse: rows of quarters have numbers of their own, so that it is not known which labels to hide.

        Raises:
            InputError: always.
        """
        raise InputError("labelled_share: rows with hidden labels have no quarters; set labelled_share: 1")

    def labelled(self) -> ResidentRows:
        """Return the rows whose labels are known, and no others."""
        row_S = self._rows.row_numbers
        return self._rows.of(row_S[self._known_R[row_S]])
