"""The cold-start protocol: which rows are base, warm block or test, and a validation split made the same way.

Split (CSDM §5.1, after CVAR). An item is hot when it occurs more than N times: all its rows are `base`. It is new when
it occurs 3K … N times: by time, equal times in the file's order, its first K rows are `warm_a`, the next K `warm_b`,
the next K `warm_c`, the rest `test` (an item with exactly 3K rows has none). Items with fewer rows are left out.

Validation split. The papers tune on their test rows or do not say. A search here sees base rows only, on which the
same protocol runs one notch up: the least frequent fifth of the hot items become pseudo-new. N' is the smallest count
such that at least a fifth of the hot items occur at most N' times; those items' rows, by time, are
`validation_warm_a`, `validation_warm_b`, `validation_warm_c` and `validation_test`, and the other hot items' rows are
`validation_base`. So the search faces the problem of the test, items that the backbone has never seen and that are
rarer than those it has, with blocks of the same size, yet no row of a new item is ever read. A fifth leaves the
backbone most of its rows and gives enough pseudo-new items for a stable area under the curve. It is deterministic.

Legend: R rows, I items.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.prepared import SplitSchema

LEFT_OUT = -1
SPLIT_CODES = {"base": 0, "warm_a": 1, "warm_b": 2, "warm_c": 3, "test": 4}
"""What the columns `split` and `validation_split` hold; `LEFT_OUT` where a row belongs to none."""

BASE, TEST = SPLIT_CODES["base"], SPLIT_CODES["test"]
PSEUDO_NEW_SHARE = 5  # one hot item in five


def split_rows(item_R: NDArray[Any], time_R: NDArray[Any], *, hot_above: int, block: int) -> NDArray[np.int32]:
    """Return the split code of every row; `hot_above` is N and `block` is K."""
    count_I = np.bincount(item_R)
    code_R = _position_among_own(item_R, time_R) // block + 1
    code_R = np.minimum(code_R, TEST)
    count_R = count_I[item_R]
    code_R[count_R > hot_above] = BASE
    code_R[count_R < 3 * block] = LEFT_OUT
    return code_R.astype(np.int32)


def validation_split_rows(
    item_R: NDArray[Any], time_R: NDArray[Any], split_R: NDArray[np.int32], *, block: int
) -> NDArray[np.int32]:
    """Return the validation split code of every row, from the base rows alone."""
    base_R = split_R == BASE
    code_R = np.full(len(item_R), LEFT_OUT, dtype=np.int32)
    code_R[base_R] = split_rows(item_R[base_R], time_R[base_R], hot_above=pseudo_new_bound(item_R[base_R]), block=block)
    return code_R


def pseudo_new_bound(item_R: NDArray[Any]) -> int:
    """Return N': the smallest count such that at least a fifth of these items occur at most that often."""
    count_I = np.bincount(item_R)
    return pseudo_new_count(count_I[count_I > 0])


def pseudo_new_count(count_I: NDArray[Any]) -> int:
    """Return N' from the numbers of rows of the hot items; 0 where there is none."""
    ordered = np.sort(count_I)
    return int(ordered[-(-len(ordered) // PSEUDO_NEW_SHARE) - 1]) if len(ordered) else 0


def split_schemas(split_R: NDArray[np.int32], validation_split_R: NDArray[np.int32]) -> dict[str, SplitSchema]:
    """Return the ten splits with their sizes; a search may read the validation ones only."""
    splits = {}
    for prefix, column, code_R, search in (
        ("", "split", split_R, False),
        ("validation_", "validation_split", validation_split_R, True),
    ):
        for name, code in SPLIT_CODES.items():
            rows = int(np.count_nonzero(code_R == code))
            splits[prefix + name] = SplitSchema(rows=rows, search=search, column=column, code=code)
    return splits


def _position_among_own(item_R: NDArray[Any], time_R: NDArray[Any]) -> NDArray[np.int64]:
    """Return each row's position by time among the rows of its item, from 0; equal times keep the file's order."""
    order_R = np.lexsort((time_R, item_R))
    sorted_item_R = item_R[order_R]
    first_R = np.searchsorted(sorted_item_R, sorted_item_R, side="left")
    position_R = np.empty(len(item_R), dtype=np.int64)
    position_R[order_R] = np.arange(len(item_R)) - first_R
    return position_R
