"""How well the true probabilities rank the rows of a prepared synthetic dataset: no method can do better.

Legend: R rows of a row group.
"""

from __future__ import annotations

import numpy as np

from harness.datasets.large.synthesis import taobao
from harness.datasets.large.synthesis.catalog import SYNTHESES
from harness.datasets.large.synthesis.world import World
from harness.datasets.parts import first_columns, part_files, read_groups, rows_of_groups
from harness.datasets.prepared import PreparedDataset
from harness.errors import InputError
from harness.metrics.auc import AucState


def planted_auc(prepared: PreparedDataset, split: str) -> float:
    """Return the AUC of the true probability on the rows of a split; NaN where they are of one class.

    Raises:
        InputError: the dataset is not synthetic.
        DataError: its files are missing or damaged.
    """
    world = world_of(prepared)
    positions = np.array([taobao.POSITIONS.index(word) for word in sorted(taobao.POSITIONS)])
    first = dict(zip([field.name for field in prepared.fields], first_columns(prepared.fields), strict=True))
    state = AucState()
    for path in part_files(prepared.folder, prepared.schema.splits[split].atoms):
        for group in range(len(rows_of_groups(path))):
            packed_RC = read_groups(path, [group])
            user_R, item_R = (packed_RC[:, first[name]] for name in ("user_id", "item_id"))
            position_R = positions[packed_RC[:, first["pid"]]] if "pid" in first else np.zeros_like(user_R)
            label_R = np.ascontiguousarray(packed_RC[:, -1]).view(np.float32)
            state.update(world.logits(user_R, item_R, position_R), label_R)
    return state.value()


def world_of(prepared: PreparedDataset) -> World:
    """Return the world that a synthetic dataset comes from; its ids are the world's, since all of them occur.

    Raises:
        InputError: the dataset is not synthetic.
    """
    facts = prepared.schema.facts
    if not prepared.schema.synthetic:
        raise InputError(f"{prepared.name}: not synthetic, so that its optimum is not known")
    name = prepared.name.removesuffix("-ctr")
    return SYNTHESES[name].world(facts["synthetic_rows"], facts["synthetic_seed"])
