from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.small_rows import FIELDS, small_rows
from trainables.base import FieldValues
from trainables.cold_start.bare import BareBackbone
from trainables.cold_start.dropoutnet import DropoutNet
from trainables.ctr.deepfm import DeepFM


class Watched(DeepFM):
    """Remembers the item-ID embeddings of each batch and the mean over the hot items at that time."""

    def interact(self, values: FieldValues) -> Tensor:
        self.__dict__.setdefault("seen", []).append(values.embedded_BFD[:, values.item_field].detach().clone())
        self.__dict__.setdefault("means", []).append(self.item_embedding.detach()[:8].mean(dim=0))
        return super().interact(values)


def dropoutnet(**parameters: Any) -> DropoutNet:
    torch.manual_seed(0)
    return DropoutNet(Watched(FIELDS, dropout=0.0), **{"batch_size": 16, **parameters})


def test_a_tenth_of_the_batches_takes_the_mean_of_the_hot_items() -> None:
    method = dropoutnet(batch_size=4)
    method.pretrain(small_rows(2400, items=(0, 8)), seed=0)
    seen, means = method.backbone.__dict__["seen"], method.backbone.__dict__["means"]
    stand_ins = sum(
        torch.allclose(item_BD, mean_D.expand(4, -1), rtol=1e-5, atol=1e-8)
        for item_BD, mean_D in zip(seen, means, strict=True)
    )
    assert len(seen) == 600
    assert 36 <= stand_ins <= 86  # 60 ± 3.5 standard deviations


def test_without_dropping_it_is_ordinary_pretraining() -> None:
    method, rows = dropoutnet(drop_probability=0.0), small_rows(64)
    method.pretrain(rows, seed=3)
    torch.manual_seed(0)
    bare = BareBackbone(DeepFM(FIELDS, dropout=0.0), batch_size=16)
    bare.pretrain(rows, seed=3)
    for name, tensor in bare.backbone.state_dict().items():
        assert torch.equal(method.backbone.state_dict()[name], tensor)


def test_a_dropped_batch_teaches_the_embeddings_nothing() -> None:
    method = dropoutnet(drop_probability=1.0, weight_decay=0.0)
    before = {name: parameter.detach().clone() for name, parameter in method.backbone.named_parameters()}
    method.pretrain(small_rows(64), seed=0)
    same = {name for name, parameter in method.backbone.named_parameters() if torch.equal(parameter, before[name])}
    assert same == {"embeddings.item_ID"}


def test_new_items_start_from_the_hot_items_mean() -> None:
    method, rows = dropoutnet(), small_rows(64, items=(0, 8))
    method.pretrain(rows, seed=0)
    method.fit(rows, seed=0)
    embedding_MD = method.generate(rows.items, torch.tensor([9, 11]))
    assert embedding_MD is not None
    for row_D in embedding_MD:
        torch.testing.assert_close(row_D, method.backbone.item_embedding.detach()[:8].mean(dim=0))


def test_the_release_averages_the_whole_table_and_leaves_new_items_alone() -> None:
    method = dropoutnet(drop_probability=1.0, variant="released")
    start_D = method.backbone.item_embedding.detach().mean(dim=0)
    method.pretrain(small_rows(64, items=(0, 8)), seed=0)
    torch.testing.assert_close(method.backbone.__dict__["seen"][0], start_D.expand(16, -1))
    assert method.generate(small_rows().items, torch.tensor([9])) is None


def test_its_pretraining_is_its_own() -> None:
    assert not DropoutNet.shares_pretraining


@pytest.mark.parametrize("variant", ["paper", "released"])
def test_a_warm_block_trains_the_item_embeddings_alone(variant: str) -> None:
    method = dropoutnet(variant=variant)
    before = {name: parameter.detach().clone() for name, parameter in method.backbone.named_parameters()}
    method.adapt(small_rows(32, items=(8, 12)), torch.arange(8, 12), seed=0)
    changed = {
        name for name, parameter in method.backbone.named_parameters() if not torch.equal(parameter, before[name])
    }
    assert changed == {"embeddings.item_ID"}
