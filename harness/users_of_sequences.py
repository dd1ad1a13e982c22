"""Whose the examples of a next-item dataset are, where each split has one of every user.

Prepared sequences name no user: under leave-one-out the place of a row tells whose it is, the same in all splits.

Legend: S rows of a split, L positions of a history.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.datasets.prepared import Schema
from harness.specs import Purpose


class SequenceColumns(NamedTuple):
    """The columns of a split of sequences, as they are stored: int32 [S, L], [S] and [S]."""

    history_SL: NDArray[np.int32]
    length_S: NDArray[np.int32]
    target_S: NDArray[np.int32]


def splits_of_every_user(schema: Schema, purpose: Purpose) -> tuple[str, ...]:
    """Return the splits that a purpose may read, in the schema's order, if each split has a row of every user.

    None of them otherwise: users are split, and those of one split are in no other.
    """
    if not schema.users or any(split.rows != schema.users for split in schema.splits.values()):
        return ()
    return tuple(name for name, split in schema.splits.items() if purpose == "repeat" or split.search)


def rows_go_on(splits: Sequence[SequenceColumns]) -> bool:
    """Tell whether row n is of the same user in all splits: each history is the one before with its target.

    Of the longer ones the last L items count.
    """
    return all(np.array_equal(later.history_SL, _with_target(earlier)) for earlier, later in pairwise(splits))


def _with_target(split: SequenceColumns) -> NDArray[np.int32]:
    """Return the histories with their targets at the end, the first item left out of full ones [S, L]."""
    positions = split.history_SL.shape[1]
    longer = np.pad(split.history_SL, ((0, 0), (0, 1)))
    longer[np.arange(len(longer)), split.length_S] = split.target_S
    return np.where((split.length_S == positions)[:, None], longer[:, 1:], longer[:, :-1])
