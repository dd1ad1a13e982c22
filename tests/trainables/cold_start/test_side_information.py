"""What describes items, piece by piece and for known items alone: the numbers of all items at once."""

from __future__ import annotations

from dataclasses import replace
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


@pytest.mark.parametrize(
    ("names", "variant", "embedded", "size"),
    [
        (None, "paper", ["year", "title"], 33),
        (None, "released", ["item_id", "year", "title"], 49),
        (("count", "item_id", "year"), "paper", ["year"], 17),
        (("count", "item_id", "year"), "released", ["item_id", "year"], 33),
        (("year",), "released", ["year"], 16),
        (("item_id", "count"), "paper", [], 1),
    ],
)
@pytest.mark.parametrize("method", [MWUF, MetaEmbedding])
def test_named_fields_alone_describe_an_item(
    method: type[ColdStartMethod], names: tuple[str, ...] | None, variant: Variant, embedded: list[str], size: int
) -> None:
    fields = tuple(replace(field, size=20) if field.role == "user_id" else field for field in FIELDS)
    built: Any = method(DeepFM(fields), side_fields=names, variant=variant)  # type: ignore[call-arg]
    of_backbone = [field.name for field in fields if field.kind != "number"]
    assert [of_backbone[place] for place in built.side.embedded] == embedded
    assert built.side.size == size
    built.fit(small_rows(64), seed=0)
    assert built.generate(item_table(), torch.tensor([3, 9])).shape == (2, 16)


@pytest.mark.parametrize("method", [MWUF, MetaEmbedding])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("yaer",), "side_fields: no field 'yaer'; known: user_id, item_id, year"),
        (("timestamp",), "side_fields: 'timestamp' has the role 'context'; name fields of items only"),
        (("item_id",), r"side_fields \[item_id\]: nothing there describes an item; name a field with the role item"),
        ((), r"side_fields \[\]: nothing there describes an item"),
    ],
)
def test_names_that_describe_no_item_are_an_error(
    method: type[ColdStartMethod], names: tuple[str, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        method(backbone(), side_fields=names)  # type: ignore[call-arg]


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
