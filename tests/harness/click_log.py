"""A small click log in the form of Criteo: categories alone, one of them with an item's role, none of that name."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.datasets.click_split import click_contents
from harness.datasets.encoding import encode_categories
from harness.datasets.prepared import PreparedDataset
from harness.datasets.writing import write_prepared

ROWS, ITEMS = 1200, 40


def write_click_log(folder: Path) -> PreparedDataset:
    """Write it, named as the folder; the label follows from the item C3 and from C1, up to a tenth."""
    random = np.random.default_rng(0)
    first_R, item_R = random.integers(0, 6, ROWS), random.permutation(np.arange(ROWS) % ITEMS)
    contents = click_contents(
        row_columns=(
            encode_categories("C1", "context", first_R),
            encode_categories("C3", "item_id", item_R),
            encode_categories("C2", "context", random.integers(0, 200, ROWS)),
        ),
        time_R=np.arange(ROWS),
        label_R=((first_R + item_R) % 2 == 0) ^ (random.random(ROWS) < 0.1),
    )
    return write_prepared(folder, contents, name=folder.name, version=1, inputs=())
