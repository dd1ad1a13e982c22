"""The generative stage before the cold-start protocol: where it goes on when it was killed, and which rows it moves."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from tests.trainables.ctr.killed_training import check_that_it_goes_on, trained
from tests.trainables.small_rows import FIELDS, small_rows
from trainables.base import ColdStartMethod, Field
from trainables.cold_start.dgenctr import DGenCTRBackbone
from trainables.ctr.deepfm import DeepFM
from trainables.diffusion.discrete import Corruption
from trainables.rowwise_adam import EmbeddingUpdates

ROWS = small_rows(150)
MANY = 300
"""Values of a field that is too large for a softmax over all of them."""

LARGE = tuple(
    Field(field.name, field.kind, MANY, field.role) if field.role in ("user_id", "item_id") else field
    for field in FIELDS
)


def built(**given: Any) -> ColdStartMethod:
    return DGenCTRBackbone(DeepFM(FIELDS), batch_size=64, **given)


def pretrain(method: Any, log: Any) -> None:
    method.pretrain(ROWS, seed=0, log=log)


@pytest.mark.parametrize("updates", ["all_rows", "touched_rows"])
def test_a_killed_pretraining_goes_on_where_it_was(updates: EmbeddingUpdates) -> None:
    """Two epochs of the generative stage and one of the ordinary training, of three batches each."""
    check_that_it_goes_on(
        lambda: built(restoring_epochs=2, embedding_updates=updates), pretrain, batches=9, rows=3 * len(ROWS)
    )


def test_the_denoiser_is_there_while_rows_are_restored_and_no_longer() -> None:
    def names(state: dict[str, Tensor]) -> set[str]:
        return {name.split(".")[0] for name in state}

    restoring, over = (trained(built, pretrain, killed_at=place).state for place in (3, 4))
    assert names(restoring) - names(over) == {"denoiser"}
    assert names(over) == names(built().state_dict())


@pytest.mark.parametrize("corruption", get_args(Corruption))
def test_touched_rows_are_those_of_the_batches(corruption: Corruption) -> None:
    torch.manual_seed(0)
    method = DGenCTRBackbone(
        DeepFM(LARGE), batch_size=64, weight_decay=1e-3, embedding_updates="touched_rows", corruption=corruption
    )
    before = {name: value.clone() for name, value in method.state_dict().items()}
    method._restore(ROWS, seed=0, log=lambda *_: None)
    after = method.state_dict()
    for name, field in {"embeddings.item_ID": "item_id", "embeddings.others.table_VD": "user_id"}.items():
        moved_V = (after[f"backbone.{name}"] != before[f"backbone.{name}"]).any(dim=1)[:MANY]
        found = moved_V.nonzero().flatten().tolist()
        occurring = ROWS.batch.columns[field].unique().tolist()
        if corruption == "mask":
            assert found == occurring
        else:  # values that are drawn anew are in the batch too, as seen by the backbone
            assert set(occurring) < set(found) and len(found) < MANY
