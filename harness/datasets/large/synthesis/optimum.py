"""How well the true probabilities rank the rows of a prepared synthetic dataset: no method can expect to do better.

Legend: R rows of a row group.
"""

from __future__ import annotations

import math

import numpy as np

from harness.datasets.large.synthesis import taobao
from harness.datasets.large.synthesis.catalog import SYNTHESES
from harness.datasets.large.synthesis.world import World
from harness.datasets.parts import first_columns, part_files, read_groups, rows_of_groups
from harness.datasets.prepared import PreparedDataset, Schema
from harness.errors import InputError
from harness.metrics.auc import AucState


def planted_auc(prepared: PreparedDataset, split: str, world: World | None = None) -> float:
    """Return the AUC of the true probability on the rows of a split; NaN where they are of one class.

    Args:
        prepared: a synthetic dataset.
        split: one of its splits.
        world: what `world_of` returns, where that is known already.

    Raises:
        InputError: the dataset is not synthetic.
        DataError: its files are missing or damaged.
    """
    world = world or world_of(prepared)
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


def with_optimum(prepared: PreparedDataset) -> Schema:
    """Return the schema of a synthetic dataset with the best possible AUC of every split that something is tested on.

    Raises:
        DataError: its files are missing or damaged.
    """
    world, splits = world_of(prepared), dict(prepared.schema.splits)
    for name in [name for name in splits if name.endswith("test")]:
        best = planted_auc(prepared, name, world)
        if not math.isnan(best):
            splits[name] = splits[name].model_copy(update={"optimum_auc": best})
    return prepared.schema.model_copy(update={"splits": splits})


def world_of(prepared: PreparedDataset) -> World:
    """Return the world that a synthetic dataset comes from; its ids are the world's, since all of them occur.

    Raises:
        InputError: the dataset is not synthetic.
    """
    facts = prepared.schema.facts
    if not prepared.schema.synthetic:
        raise InputError(f"{prepared.name}: not synthetic, so that its optimum is not known")
    rows, seed = facts["synthetic_rows"], facts["synthetic_seed"]
    return SYNTHESES[prepared.name.split("-")[0]].world(rows, seed, facts.get("synthetic_world_rows", rows))
