"""The splits of the task `ctr`: by time, and at random, each 8:1:1 into train, validation and test.

By time, the earliest rows are trained on and the latest are tested; rows of equal time keep the file's order. At
random, one fixed permutation decides, the same in every preparation. Nothing that the fields hold depends on a split:
there are no counts, only vocabularies.

Legend: R rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.encoding import Column
from harness.datasets.prepared import SplitSchema
from harness.datasets.writing import Contents, Table

SPLITS = ("train", "validation", "test")
SPLIT_KINDS = ("time", "random")
"""The columns are `time_split` and `random_split`, the splits `time_train`, …, `random_test`."""

_TENTHS = (8, 9, 10)
_RANDOM_SEED = 20250821


def time_split(time_R: NDArray[Any]) -> NDArray[np.int32]:
    """Return each row's split, 0 … 2, by rising time; equal times keep the file's order."""
    return _parted(np.argsort(time_R, kind="stable"))


def random_split(rows: int) -> NDArray[np.int32]:
    """Return each row's split, 0 … 2, by a permutation that is always the same for this number of rows."""
    return _parted(np.random.default_rng(_RANDOM_SEED).permutation(rows))


def click_contents(
    *,
    row_columns: Sequence[Column],
    user_columns: Sequence[Column] = (),
    item_columns: Sequence[Column] = (),
    time_R: NDArray[Any],
    label_R: NDArray[Any],
    note: str = "",
) -> Contents:
    """Return the contents of a click-through-rate dataset.

    Args:
        row_columns: fields that stand with each row; the first two are the ids by which users' and items' fields are
            found, or, where there are no such fields, any categories, the users and items of the schema.
        user_columns: fields of a user, row i for id i.
        item_columns: fields of an item.
        time_R: what orders the rows in time.
        label_R: whether it was clicked.
        note: what goes beside every result.
    """
    first, second = row_columns[:2]
    splits_R = {"time": time_split(time_R), "random": random_split(len(label_R))}
    rows: Table = {
        **{column.field.name: column.values for column in row_columns},
        "label": label_R.astype(np.float32),
        **{f"{kind}_split": split_R for kind, split_R in splits_R.items()},
    }
    return Contents(
        kind="interactions",
        tables={
            "rows": rows,
            "users": {column.field.name: column.values for column in user_columns},
            "items": {column.field.name: column.values for column in item_columns},
        },
        fields=tuple(column.field for column in (*row_columns, *user_columns, *item_columns)),
        users=first.field.size,
        items=second.field.size,
        splits={
            f"{kind}_{name}": SplitSchema(
                rows=int(np.count_nonzero(split_R == code)),
                search=name != "test",
                column=f"{kind}_split",
                code=code,
            )
            for kind, split_R in splits_R.items()
            for code, name in enumerate(SPLITS)
        },
        facts={"rows": len(label_R), "positives": int(np.count_nonzero(label_R))},
        note=note,
    )


def _parted(order_R: NDArray[np.int64]) -> NDArray[np.int32]:
    """Return the split of each row from the rows in their order: eight tenths, a tenth, a tenth."""
    bound = np.array([len(order_R) * tenths // 10 for tenths in _TENTHS[:-1]])
    split_R = np.empty(len(order_R), dtype=np.int32)
    split_R[order_R] = np.searchsorted(bound, np.arange(len(order_R)), side="right")
    return split_R
