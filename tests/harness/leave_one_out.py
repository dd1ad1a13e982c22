"""Small sequences under leave-one-out: every user has a row in every split."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from harness.datasets.item_descriptions import ItemDescription
from harness.datasets.prepared import PreparedDataset
from harness.datasets.sequences import leave_one_out, sequence_contents
from harness.datasets.writing import Contents, write_prepared

USERS, ITEMS, LENGTH = 60, 30, 6


def random_sequences() -> list[list[int]]:
    """Sequences of a user each, some of a history of one item, some longer than a history may be."""
    random = np.random.default_rng(0)
    lengths = random.integers(4, 2 * LENGTH, USERS).tolist()
    return [random.integers(1, ITEMS + 1, length).tolist() for length in lengths]


def favourites() -> list[list[int]]:
    """Sequences that begin alike and end with three times one item, the user's own."""
    return [[ITEMS, ITEMS, *[1 + user % (ITEMS - 1)] * 3] for user in range(USERS)]


def leave_one_out_contents(
    sequences: Sequence[Sequence[int]] | None = None, described_items: Sequence[ItemDescription] = ()
) -> Contents:
    examples = leave_one_out(sequences or random_sequences(), LENGTH)
    return sequence_contents(examples, items=ITEMS, users=USERS, history_length=LENGTH, described_items=described_items)


def with_rows_reversed(contents: Contents, split: str) -> Contents:
    """The same rows, those of a split in another order."""
    table = {name: np.ascontiguousarray(values[::-1]) for name, values in contents.tables[split].items()}
    return replace(contents, tables={**contents.tables, split: table})


def written(contents: Contents, folder: Path) -> PreparedDataset:
    return write_prepared(folder, contents, name=folder.name, version=1, inputs=())
