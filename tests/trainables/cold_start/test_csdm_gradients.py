from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.trainables.small_rows import FIELDS, small_rows
from trainables.base import CtrBatch, CtrModel, ItemTable
from trainables.cold_start.csdm import CSDM
from trainables.cold_start.generator import PreparedBatch
from trainables.ctr.dcn import DCN
from trainables.ctr.deepfm import DeepFM

BETA = 1e-2
"""Far above CSDM's, so that the noise weighs much in the reverse process and an error in its part shows."""


def method_and_batch(
    backbone: CtrModel, dtype: torch.dtype = torch.float32, **parameters: Any
) -> tuple[CSDM, PreparedBatch]:
    method = CSDM(backbone, **{"beta": BETA, "rho": 0.3, "backbone_mode": "evaluation", **parameters}).to(dtype)
    rows = small_rows(64)
    method.train()
    method.backbone.train(method.backbone_mode == "training")
    batch = CtrBatch(floats_in(rows.batch.columns, dtype), rows.batch.label_B.to(dtype))
    prepared = method._prepare(ItemTable(floats_in(rows.items.columns, dtype)), batch)
    return method, replace(prepared, weight_M=prepared.weight_M.to(dtype))


def floats_in(columns: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: c.to(dtype) if c.is_floating_point() else c for name, c in columns.items()}


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"stride": 5, "unet_hidden": (7, 5)},
        {"variant": "released"},
        {"train_unet": False},
        {"reverse": "one_step"},
        {"draws": "row"},
        {"dropout": 0.0, "unet_dropout": 0.0},
        {"dropout": 0.2, "unet_dropout": 0.3},
        {"rho": 0.0},
        {"side_fields": ("year",)},
        {"side_fields": ("item_id", "title", "count"), "backbone_mode": "training"},
    ],
    ids=str,
)
def test_losses_and_gradients_are_those_of_autograd(parameters: dict[str, Any]) -> None:
    """Double precision, the same draws for both; a backbone in training mode has no dropout here."""
    torch.manual_seed(0)
    method, prepared = method_and_batch(DeepFM(FIELDS, dropout=0.0), torch.float64, **parameters)
    compare(method, prepared, rtol=1e-10, atol=1e-14)


def test_in_single_precision_they_differ_by_rounding_alone() -> None:
    torch.manual_seed(0)
    method, prepared = method_and_batch(DeepFM(FIELDS))
    compare(method, prepared, rtol=1e-5, atol=1e-6)


def test_any_backbone_will_do() -> None:
    torch.manual_seed(0)
    method, prepared = method_and_batch(DCN(FIELDS))
    compare(method, prepared, rtol=1e-5, atol=1e-6)


def test_gradients_of_the_rows_of_a_batch_alone() -> None:
    torch.manual_seed(0)
    method, prepared = method_and_batch(DeepFM(FIELDS), embedding_updates="touched_rows")
    method.optimizer(method._generator_parameters(), 1e-3)
    torch.manual_seed(1)
    method._gradients(prepared)
    ours = method.side.table.grad
    torch.manual_seed(1)
    losses = method._losses(prepared, method.draw(prepared.embedding_MD))
    (theirs,) = torch.autograd.grad(sum(losses.values(), torch.zeros(())), [method.side.table])
    assert ours is not None and ours.is_sparse and theirs.is_sparse
    assert torch.equal(ours._indices(), theirs._indices())
    torch.testing.assert_close(ours._values(), theirs._values(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("parameters", [{"reverse": "none"}, {"sigma": 0.01}], ids=str)
def test_without_steps_or_with_noise_in_them_autograd_does_it(parameters: dict[str, Any]) -> None:
    torch.manual_seed(0)
    method, prepared = method_and_batch(DeepFM(FIELDS), **parameters)
    method.backbone.requires_grad_(False)
    found = []
    for gradients in (method._gradients, lambda batch: plain(method, batch)):
        torch.manual_seed(1)
        method.zero_grad()
        losses = gradients(prepared)
        found.append([*losses.values(), *(p.grad for p in method._generator_parameters() if p.grad is not None)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def plain(method: CSDM, prepared: PreparedBatch) -> dict[str, Tensor]:
    losses = method._losses(prepared)
    torch.stack(list(losses.values())).sum().backward()  # type: ignore[no-untyped-call]
    return {name: loss.detach() for name, loss in losses.items()}


def compare(method: CSDM, prepared: PreparedBatch, rtol: float, atol: float) -> None:
    """Compare `GradientsByHand` with autograd on the plain form: twice, for the memory that is used again."""
    parameters = method._generator_parameters()
    assert len(parameters) == (7 if not method.unet_trains else 17)
    for seed in (1, 2):
        torch.manual_seed(seed)
        losses = method._gradients(prepared)
        by_hand = [parameter.grad for parameter in parameters]
        torch.manual_seed(seed)
        expected = method._losses(prepared, method.draw(prepared.embedding_MD))
        wanted = torch.autograd.grad(sum(expected.values(), torch.zeros(())), parameters)
        assert list(losses) == list(expected)
        for name, loss in expected.items():
            torch.testing.assert_close(losses[name], loss.detach(), rtol=rtol, atol=atol)
        for ours, theirs in zip(by_hand, wanted, strict=True):
            assert ours is not None and ours.is_contiguous()
            scale = float(theirs.abs().max())
            torch.testing.assert_close(ours, theirs, rtol=rtol, atol=max(atol, rtol * scale))
