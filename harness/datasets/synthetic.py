"""Small generated datasets with a planted signal, for tests and for trying a method out in seconds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from harness.datasets.encoding import encode_categories, encode_sequence
from harness.datasets.interactions import cold_start_contents
from harness.datasets.item_descriptions import ItemDescription
from harness.datasets.prepared import PreparedDataset, SplitSchema
from harness.datasets.writing import Contents, write_prepared


def write_small_interactions(
    folder: Path,
    seed: int = 0,
    *,
    users: int = 80,
    hot_items: int = 30,
    new_items: int = 15,
    rare_items: int = 3,
    hot_above: int = 50,
    block: int = 8,
    noise: float = 0.5,
) -> PreparedDataset:
    """Write a cold-start dataset of about 2,800 rows with the fields of MovieLens, named as the folder.

    A user likes an item when their hidden tastes agree, up to logistic noise of this scale. The item's taste shows in
    its genres and year, the user's in gender and age, so side information predicts the labels of new items.
    """
    random = np.random.default_rng(seed)
    items = hot_items + new_items + rare_items
    genre_I = np.arange(items) % 4
    count_I = np.concatenate(
        [
            random.integers(hot_above + 1, 2 * hot_above - 5, hot_items),
            random.integers(3 * block + 4, hot_above + 1, new_items),
            random.integers(1, 3 * block, rare_items),
        ]
    )
    item_R = random.permutation(np.repeat(np.arange(items, dtype=np.int32), count_I))
    user_R = np.concatenate([np.arange(users), random.integers(0, users, len(item_R) - users)]).astype(np.int32)
    group_U = np.arange(users) % 4
    taste_R = np.where(group_U[user_R] == genre_I[item_R], 1.5, -1.0) + 0.5 * random.standard_normal(items)[item_R]
    label_R = taste_R + noise * random.logistic(size=len(item_R)) > 0
    return write_prepared(
        folder,
        cold_start_contents(
            user_R=user_R,
            item_R=item_R,
            time_R=np.sort(random.integers(0, 10_000, len(item_R))),
            label_R=label_R,
            user_columns=(
                encode_categories("gender", "user", [str(group % 2) for group in group_U]),
                encode_categories("age", "user", [str(group // 2) for group in group_U]),
            ),
            item_columns=(
                encode_categories("year", "item", [str(1990 + genre) for genre in genre_I]),
                encode_sequence("title", "item", [["film", f"word{index % 10}"] for index in range(items)], 4),
                encode_sequence("genres", "item", [[f"genre{genre}"] for genre in genre_I], 3),
            ),
            hot_above=hot_above,
            block=block,
            note="generated",
        ),
        name=folder.name,
        version=1,
        inputs=(),
    )


def write_small_sequences(
    folder: Path,
    seed: int = 0,
    *,
    users: int = 500,
    items: int = 40,
    history_length: int = 10,
    noise: float = 0.1,
    described_items: Sequence[ItemDescription] = (),
    version: int = 1,
) -> PreparedDataset:
    """Write a next-item dataset, users split 8:1:1, named as the folder.

    The next item is the last one's successor on a fixed random cycle of all items, or with probability `noise` any.
    In the place of a dataset of the catalog it is taken for it if it has its `version`.
    """
    random = np.random.default_rng(seed)
    successor = np.empty(items + 1, dtype=np.int32)
    cycle = random.permutation(np.arange(1, items + 1)).astype(np.int32)
    successor[cycle] = np.roll(cycle, -1)
    walk = np.empty((users, history_length + 1), dtype=np.int32)
    walk[:, 0] = random.integers(1, items + 1, users)
    for step in range(history_length):
        anywhere = random.random(users) < noise
        walk[:, step + 1] = np.where(anywhere, random.integers(1, items + 1, users), successor[walk[:, step]])
    length = random.integers(min(3, history_length), history_length + 1, users).astype(np.int32)
    history = np.where(np.arange(history_length) < length[:, None], walk[:, :-1], 0).astype(np.int32)
    target = walk[np.arange(users), length]
    bounds = {"train": (0, users * 8 // 10), "validation": (users * 8 // 10, users * 9 // 10)}
    bounds["test"] = (users * 9 // 10, users)
    contents = Contents(
        kind="sequences",
        tables={
            split: {"history": history[low:high], "length": length[low:high], "target": target[low:high]}
            for split, (low, high) in bounds.items()
        },
        splits={split: SplitSchema(rows=high - low, search=split != "test") for split, (low, high) in bounds.items()},
        items=items,
        users=users,
        history_length=history_length,
        note="generated",
        described_items=described_items,
    )
    return write_prepared(folder, contents, name=folder.name, version=version, inputs=())
