"""The conformance suite finds what it is there to find."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from trainables.base import Field, ItemTable, Log, RowSource, no_log
from trainables.cold_start import conformance
from trainables.cold_start.bare import BareBackbone
from trainables.cold_start.conformance import Build, RowsInMemory, rows_of
from trainables.ctr.deepfm import DeepFM


class TouchesTheBackbone(BareBackbone):
    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        self.pretrain(base, seed=seed, log=log)


class TouchesInGenerate(BareBackbone):
    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor | None:
        self.backbone.item_embedding.data[0] += 1
        return None


class TrainsAllOnABlock(BareBackbone):
    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        self.pretrain(block, seed=seed, log=log)


class MovesHotItems(BareBackbone):
    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        super().adapt(block, new_item_M, seed=seed, log=log)
        self.backbone.item_embedding.data[2] += 1


class LeavesFrozen(BareBackbone):
    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        next(self.backbone.parameters()).requires_grad_(False)


class IgnoresTheSeed(BareBackbone):
    def pretrain(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        for parameter in self.backbone.parameters():
            parameter.data.fill_(0.1)

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        return


class Unrepeatable(BareBackbone):
    calls = 0

    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        Unrepeatable.calls += 1
        self.backbone.item_embedding.data[:] += Unrepeatable.calls


class WrongShape(BareBackbone):
    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor | None:
        return torch.zeros(len(item_M), 3)


class DividesByTheDeviation(BareBackbone):
    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        super().adapt(block, new_item_M, seed=seed, log=log)
        label_B = next(iter(block.batches(64))).label_B
        self.backbone.item_embedding.data[new_item_M] /= label_B.std()


class DividesByTheWords(BareBackbone):
    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor | None:
        title_ML = items.select(item_M)["title"]
        return (title_ML.sum(dim=1) / (title_ML != 0).sum(dim=1)).unsqueeze(1).repeat(1, 16)


class AcceptsNoRows(BareBackbone):
    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        if len(block):
            super().adapt(block, new_item_M, seed=seed, log=log)


FAULTS: list[tuple[type[BareBackbone], Callable[[Build], None], str]] = [
    (TouchesTheBackbone, conformance.check_that_a_stage_touches_only_what_it_may, "fit changed the backbone's"),
    (TouchesInGenerate, conformance.check_that_a_stage_touches_only_what_it_may, "generate changed"),
    (TrainsAllOnABlock, conformance.check_that_a_stage_touches_only_what_it_may, "adapt changed the backbone's"),
    (LeavesFrozen, conformance.check_that_a_stage_touches_only_what_it_may, "left without gradients"),
    (MovesHotItems, conformance.check_that_hot_items_are_left_alone, r"hot items \[2\] moved"),
    (IgnoresTheSeed, conformance.check_that_a_seed_decides_the_result, "another seed gave the same"),
    (Unrepeatable, conformance.check_that_a_seed_decides_the_result, "the same seed gave another result"),
    (WrongShape, conformance.check_that_generated_embeddings_have_their_shape, r"\(4, 3\), not \(4, 16\)"),
    (DividesByTheDeviation, conformance.check_that_a_block_of_one_class_is_survived, "not finite"),
    (DividesByTheWords, conformance.check_that_an_item_without_side_information_gets_an_embedding, "not finite"),
    (AcceptsNoRows, conformance.check_that_no_rows_are_an_error, "adapt without rows raised no ValueError"),
]


@pytest.mark.parametrize(("cls", "check", "message"), FAULTS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_faulty_method_fails(cls: type[BareBackbone], check: Callable[[Build], None], message: str) -> None:
    def build(fields: tuple[Field, ...]) -> BareBackbone:
        return cls(DeepFM(fields, dropout=0.0), weight_decay=0.0, batch_size=16)

    with pytest.raises(AssertionError, match=message):
        check(build)


def test_checks_leave_the_global_generator_alone() -> None:
    torch.manual_seed(3)
    expected = torch.rand(())
    torch.manual_seed(3)
    conformance.check_that_a_seed_decides_the_result(
        lambda fields: BareBackbone(DeepFM(fields), weight_decay=0.0, batch_size=16)
    )
    assert torch.equal(torch.rand(()), expected)


def test_quarters_in_memory_are_aligned_by_item_and_in_time() -> None:
    rows = rows_of(range(5), 61)
    quarters = rows.item_quarters(seed=1)
    counts = torch.bincount(rows.batch.columns["item_id"])
    assert {len(quarter) for quarter in quarters} == {int((counts // 4).sum())}
    columns = [quarter.batch.columns for quarter in quarters]
    for earlier, later in pairwise(columns):
        assert torch.equal(earlier["item_id"], later["item_id"])
        assert bool((earlier["timestamp"] < later["timestamp"]).all())
    assert not torch.equal(columns[0]["item_id"], columns[0]["item_id"].sort().values)
    assert isinstance(quarters[0], RowsInMemory)
