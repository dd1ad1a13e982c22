from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tests.trainables.small_rows import FIELDS, SmallRows, small_rows
from trainables.base import CtrBatch
from trainables.cold_start.bare import BareBackbone
from trainables.ctr.deepfm import DeepFM

Points = list[tuple[str, float, int]]


def bare(**parameters: float | int) -> BareBackbone:
    torch.manual_seed(0)
    # Before a normalization a bias has no gradient but rounding, which Adam blows up; a small start keeps it small.
    return BareBackbone(DeepFM(FIELDS, dropout=0.0, normalization_start="uniform"), **parameters)  # type: ignore[arg-type]


def state(method: BareBackbone) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in method.backbone.state_dict().items()}


def test_pretraining_is_adam_on_binary_cross_entropy() -> None:
    method, reference = bare(batch_size=16), bare().backbone.train()
    method.pretrain(small_rows(64), seed=5)
    optimizer = torch.optim.Adam(reference.parameters(), lr=1e-3, weight_decay=1e-6, foreach=False)
    for batch in small_rows(64).batches(16, shuffle_seed=5):
        optimizer.zero_grad()
        F.binary_cross_entropy(torch.sigmoid(reference(batch)), batch.label_B).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    for name, tensor in reference.state_dict().items():
        torch.testing.assert_close(method.backbone.state_dict()[name], tensor, rtol=0, atol=1e-4)


def test_adapting_changes_item_embeddings_and_running_statistics_only() -> None:
    method = bare(batch_size=16)
    before = state(method)
    method.adapt(small_rows(64), torch.arange(8, 12), seed=0)
    changed = {name for name, tensor in method.backbone.state_dict().items() if not torch.equal(tensor, before[name])}
    assert "embeddings.item_ID" in changed
    assert all(name == "embeddings.item_ID" or "running" in name or "tracked" in name for name in changed)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in method.parameters())


def test_items_without_rows_shrink_by_whole_steps_of_the_weight_decay() -> None:
    method = bare(batch_size=16, adapt_learning_rate=1e-4)
    before = method.backbone.item_embedding.detach()[:4].clone()
    method.adapt(small_rows(64, items=(4, 12)), torch.arange(4), seed=0)
    moved = (before - method.backbone.item_embedding.detach()[:4]) * before.sign()
    large = before.abs() > 1e-3
    assert bool((moved[large] > 0).all())


def test_no_embedding_is_generated() -> None:
    assert bare().generate(small_rows().items, torch.arange(3)) is None


def test_the_curve_counts_steps_over_all_stages() -> None:
    points: Points = []
    method = bare(batch_size=16)
    method.pretrain(small_rows(64), seed=0, log=lambda *point: points.append(point))
    method.adapt(small_rows(32), torch.arange(3), seed=0, log=lambda *point: points.append(point))
    assert [(name, step) for name, _, step in points if name.endswith("loss")] == [
        ("pretrain/loss", 4),
        ("adapt/loss", 6),
    ]
    assert {name: value for name, value, _ in points}["adapt/learning_rate"] == 1e-3


def test_a_last_batch_of_one_row_is_left_out() -> None:
    method = bare(batch_size=16)
    method.pretrain(small_rows(65), seed=0)
    assert method.curve.step == 4


def test_an_empty_block_is_an_error() -> None:
    with pytest.raises(ValueError, match="adapt: no rows to train on"):
        bare().adapt(small_rows(0), torch.arange(3), seed=0)


def test_a_loss_that_is_not_finite_names_stage_and_step() -> None:
    rows = small_rows(32)
    broken = CtrBatch({**rows.batch.columns, "timestamp": torch.full((32,), torch.inf)}, rows.batch.label_B)
    with pytest.raises(FloatingPointError, match=r"pretrain: the loss is nan at step 1; lower"):
        bare().pretrain(SmallRows(broken, rows.items), seed=0)
