"""What describes items, piece by piece and for known items alone: the numbers of all items at once."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.small_rows import FIELDS, ITEMS, item_table, small_rows
from trainables.base import ColdStartMethod, CtrBatch, FieldValues
from trainables.cold_start.meta_embedding import MetaEmbedding
from trainables.cold_start.mwuf import MWUF
from trainables.cold_start.side_information import (
    DescribedItems,
    Variant,
    described,
    item_side_information,
    items_alone,
)
from trainables.ctr.deepfm import DeepFM


def backbone(seed: int = 0) -> DeepFM:
    torch.manual_seed(seed)
    return DeepFM(FIELDS)


def at_once(model: DeepFM, variant: Variant) -> Tensor:
    """Return the side information of all items [I, S] in the plain form."""
    with torch.no_grad():
        return item_side_information(model, variant)(items_alone(model, item_table(), torch.arange(ITEMS)))


@pytest.mark.parametrize("variant", ["paper", "released"])
@pytest.mark.parametrize("items_at_once", [1, 5, 12, 100])
def test_pieces_give_what_all_items_at_once_give(variant: Variant, items_at_once: int) -> None:
    model = backbone()
    side = item_side_information(model, variant)
    found = described(model, side, item_table(), torch.arange(ITEMS), items_at_once)
    assert torch.equal(found, at_once(model, variant))
    some_M = torch.tensor([7, 2, 11])
    assert torch.equal(described(model, side, item_table(), some_M, items_at_once), at_once(model, variant)[some_M])
    assert described(model, side, item_table(), some_M[:0]).shape == (0, side.size)


def test_known_items_are_found_by_their_ids() -> None:
    model, known_K = backbone(), torch.tensor([1, 4, 5, 9])
    side = DescribedItems(model, item_side_information(model, "paper"), item_table(), known_K)
    asked_M = torch.tensor([9, 1, 5, 5])
    assert torch.equal(side.of(asked_M), at_once(model, "paper")[asked_M])


@pytest.mark.parametrize("method", [MWUF, MetaEmbedding])
def test_training_embeds_the_items_of_its_rows_and_no_others(
    method: type[ColdStartMethod], monkeypatch: pytest.MonkeyPatch
) -> None:
    built: Any = method(backbone(), batch_size=8)  # type: ignore[call-arg]
    embedded: list[int] = []
    original = built.backbone.embed

    def recorded(batch: CtrBatch) -> FieldValues:
        embedded.extend(batch.columns["item_id"].tolist())
        values: FieldValues = original(batch)
        return values

    monkeypatch.setattr(built.backbone, "embed", recorded)
    built.fit(small_rows(64, items=(3, 8)), seed=0)
    assert set(embedded) == {3, 4, 5, 6, 7}
