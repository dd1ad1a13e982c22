"""Contents of a cold-start dataset, from its encoded columns.

Legend: R rows, I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.cold_start_split import LEFT_OUT, TEST, split_rows, split_schemas, validation_split_rows
from harness.datasets.encoding import Column, encode_number, scale_to_unit
from harness.datasets.prepared import FieldSchema
from harness.datasets.writing import Contents


def cold_start_contents(
    *,
    user_R: NDArray[np.int32],
    item_R: NDArray[np.int32],
    time_R: NDArray[Any],
    label_R: NDArray[Any],
    user_columns: Sequence[Column],
    item_columns: Sequence[Column],
    hot_above: int,
    block: int,
    note: str = "",
) -> Contents:
    """Split the rows, and add the fields that all cold-start datasets have: the ids, `timestamp` and `count`.

    `timestamp` is scaled to 0…1 over all rows. `count` is how often the item occurs, over all rows whatever their
    split (the protocol's leak; the feed can count again from fewer), divided by the largest such count.
    """
    count_I = np.bincount(item_R)
    split_R = split_rows(item_R, time_R, hot_above=hot_above, block=block)
    validation_split_R = validation_split_rows(item_R, time_R, split_R, block=block)
    timestamp = encode_number("timestamp", "context", scale_to_unit(time_R))
    count = encode_number("count", "item", count_I / count_I.max())
    items = (*item_columns, count)
    return Contents(
        kind="interactions",
        tables={
            "rows": {
                "user_id": user_R,
                "item_id": item_R,
                "timestamp": timestamp.values,
                "label": label_R.astype(np.float32),
                "split": split_R,
                "validation_split": validation_split_R,
            },
            "users": {column.field.name: column.values for column in user_columns},
            "items": {column.field.name: column.values for column in items},
        },
        fields=(
            FieldSchema(name="user_id", kind="category", size=int(user_R.max()) + 1, role="user_id"),
            *(column.field for column in user_columns),
            FieldSchema(name="item_id", kind="category", size=len(count_I), role="item_id"),
            *(column.field for column in items),
            timestamp.field,
        ),
        items=len(count_I),
        users=int(user_R.max()) + 1,
        splits=split_schemas(split_R, validation_split_R),
        facts=cold_start_facts(item_R, label_R, split_R),
        note=note,
    )


def cold_start_facts(item_R: NDArray[Any], label_R: NDArray[Any], split_R: NDArray[np.int32]) -> dict[str, int]:
    """Return the counts that tell whether a preparation is the known one."""

    def distinct(mask_R: NDArray[np.bool_]) -> int:
        return len(np.unique(item_R[mask_R]))

    facts: Mapping[str, int] = {
        "rows": len(item_R),
        "positives": int(np.count_nonzero(label_R)),
        "hot_items": distinct(split_R == 0),
        "new_items": distinct((split_R > 0) & (split_R <= TEST)),
        "left_out_items": distinct(split_R == LEFT_OUT),
        "largest_count": int(np.bincount(item_R).max()),
    }
    return dict(facts)
