from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from tests.trainables.small_rows import FIELDS, SmallRows, small_rows
from trainables.base import CtrBatch
from trainables.cold_start.csdm import CSDM
from trainables.ctr.deepfm import DeepFM
from trainables.diffusion.schedules import csdm_schedule

CERTAIN: dict[str, Any] = {"dropout": 0.0, "unet_dropout": 0.0}
"""Without dropout and with σ = 0, all of CSDM but the diffusion loss is deterministic."""


def csdm(**parameters: Any) -> CSDM:
    torch.manual_seed(0)
    return CSDM(DeepFM(FIELDS, dropout=0.0), **{"batch_size": 16, **parameters})


def changed(method: CSDM, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in method.state_dict().items() if not torch.equal(tensor, before[name])}


def copied(method: CSDM) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in method.state_dict().items()}


def test_generated_embeddings_are_equation_10_written_out() -> None:
    method, rows, item_M = csdm(stride=5, **CERTAIN), small_rows(), torch.tensor([3, 7])
    columns = {**rows.items.select(item_M), "item_id": item_M}
    alpha, c = (tensor.float() for tensor in csdm_schedule())
    h = method.encode_side(method.side(columns))
    z = h
    steps = list(range(96, 0, -5))
    for t, to in zip(steps, [*steps[1:], 0], strict=True):
        noise = method.unet(z, method.unet.time_parts()[t])
        z0 = (z - c[t].sqrt() * h - (1 - alpha[t]).sqrt() * noise) / alpha[t].sqrt()
        z = alpha[to].sqrt() * z0 + (1 - alpha[to]).sqrt() * noise + c[to].sqrt() * h
    expected = method.decode(torch.cat([z, columns["count"].unsqueeze(1)], dim=1))
    torch.testing.assert_close(method.generate(rows.items, item_M), expected, rtol=1e-4, atol=1e-5)


def test_items_once_or_row_by_row_give_the_same_losses_and_gradients() -> None:
    """Without dropout, and with the noise of an item drawn alike for its rows, the two computations are one."""
    gradients = []
    batch = small_rows(64).batch
    for draws in ("item", "row"):
        method = csdm(draws=draws, rho=0.0, **CERTAIN)
        losses = method._losses(method._prepare(small_rows().items, batch))
        losses["ctr_loss"].backward()  # type: ignore[no-untyped-call]
        gradients.append(
            [losses["ctr_loss"], *(p.grad for p in (*method.side.parameters(), *method.unet.parameters()))]
        )
    for once, by_row in zip(*gradients, strict=True):
        torch.testing.assert_close(once, by_row)


def test_the_diffusion_loss_weighs_items_by_their_rows() -> None:
    method = csdm(**CERTAIN)
    embedding_MD, h_MD = torch.randn(2, 3, 16)
    draws, losses = method.draw(h_MD), []
    for rows_M in ([1.0, 0, 0], [0, 1.0, 0], [0, 0, 1.0], [3.0, 1.0, 4.0]):
        weight_M = torch.tensor(rows_M) / sum(rows_M)
        losses.append(float(method.diffusion_loss(embedding_MD, h_MD, weight_M, draws).detach()))
    assert losses[3] == pytest.approx((3 * losses[0] + losses[1] + 4 * losses[2]) / 8, rel=1e-5)


def test_the_ctr_loss_sees_generated_embeddings_in_place_of_the_table() -> None:
    method, rows = csdm(**CERTAIN), small_rows(64)
    loss = method._losses(method._prepare(rows.items, rows.batch))["ctr_loss"]
    generated_ID = method.generate(rows.items, torch.arange(12))
    with torch.no_grad():
        method.backbone.item_embedding.copy_(generated_ID)
    expected = F.binary_cross_entropy_with_logits(method.backbone(rows.batch), rows.batch.label_B)
    torch.testing.assert_close(loss, expected)


def test_noise_in_the_reverse_steps_is_added_to_the_same_way_down() -> None:
    items, item_M = small_rows().items, torch.arange(4)
    without, hardly = (csdm(sigma=sigma, **CERTAIN).generate(items, item_M) for sigma in (0.0, 1e-9))
    torch.testing.assert_close(without, hardly, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(csdm(sigma=0.003, **CERTAIN).generate(items, item_M), without, rtol=1e-4, atol=1e-5)


def test_dropout_is_drawn_anew_at_every_step() -> None:
    draws = csdm().train().draw(torch.ones(200, 16))
    assert draws.unet_scale_PMD.shape == (11, 200, 16)
    assert not any(torch.equal(one, other) for one, other in pairwise(draws.unet_scale_PMD))
    for scale in (draws.unet_scale_PMD, draws.h_scale_MD):
        assert scale.unique().tolist() == [0.0, 2.0]
        assert float(scale.mean()) == pytest.approx(1, abs=0.05)
    assert 1 <= int(draws.t_M.min()) <= 10 and 90 <= int(draws.t_M.max()) <= 100


def test_fitting_leaves_the_backbone_alone_but_for_its_running_statistics() -> None:
    method = csdm()
    before = copied(method)
    method.fit(small_rows(64), seed=0)
    names = changed(method, before)
    assert {
        name for name in names if name.startswith("backbone.") and "running" not in name and "batches" not in name
    } == set()
    assert any("running" in name for name in names)
    assert {name.split(".")[0] for name in names} == {
        "backbone",
        "side",
        "encode_side",
        "encode_embedding",
        "unet",
        "decode",
    }
    assert method.curve.step == 4 * 10


def test_in_evaluation_mode_the_backbone_does_not_move_at_all() -> None:
    method = csdm(backbone_mode="evaluation")
    before = copied(method)
    method.fit(small_rows(64), seed=0)
    assert not {name for name in changed(method, before) if name.startswith("backbone.")}


@pytest.mark.parametrize("parameters", [{"variant": "released"}, {"train_unet": False}])
def test_the_unet_can_stay_at_its_initial_weights(parameters: dict[str, Any]) -> None:
    method = csdm(**parameters)
    before = copied(method)
    method.fit(small_rows(64), seed=0)
    names = {name.split(".")[0] for name in changed(method, before)}
    assert "unet" not in names and {"side", "encode_side", "encode_embedding", "decode"} <= names


def test_the_released_start_has_the_ranges_of_the_release() -> None:
    """Encoders and decoder uniform in ±0.01; the U-Net Xavier-normal, its biases of deviation 0.001."""
    method = csdm(start="released", unet_hidden=(96, 80), time_size=64)
    for module in (method.encode_side, method.encode_embedding, method.decode):
        for parameter in module.parameters():
            assert 0.007 < float(parameter.detach().abs().max()) <= 0.01
        assert float(module.weight.detach().std()) == pytest.approx(0.01 / 3**0.5, rel=0.15)
    layers = [module for module in method.unet.modules() if isinstance(module, nn.Linear)]
    assert len(layers) == 5
    for layer in layers:
        weight = layer.weight.detach()
        assert float(weight.std()) == pytest.approx((2 / sum(weight.shape)) ** 0.5, rel=0.1)
        assert float(weight.abs().max() / weight.std()) > 2.5  # a uniform one would end at √3
    biases = torch.cat([layer.bias.detach() for layer in layers])
    assert float(biases.std()) == pytest.approx(0.001, rel=0.15) and float(biases.abs().max()) > 0.0025
    assert float(method.side.table.detach().std()) == pytest.approx(1, abs=0.15)


def test_the_start_is_no_part_of_the_variant() -> None:
    paper, released, started = (
        csdm(**parameters).state_dict() for parameters in ({}, {"variant": "released"}, {"start": "released"})
    )
    assert all(torch.equal(value, released[name]) for name, value in paper.items())
    same = {name for name, value in paper.items() if torch.equal(value, started[name])}
    assert all(name.startswith(("backbone.", "side.")) for name in same)
    assert {name for name in paper if name.startswith(("backbone.", "side."))} == same


def test_a_sigma_that_a_reverse_step_does_not_allow_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"^sigma 0\.0032: at step 1 it may be at most 0\.00316$"):
        csdm(sigma=0.0032)
    method = csdm(sigma=0.00316)
    method.fit(small_rows(32), seed=0)
    for free in ({"reverse": "one_step"}, {"reverse": "none"}, {"stride": 100}, {"beta": 0.5}):
        csdm(sigma=0.5, **free)


def test_a_warm_block_trains_embeddings_beside_a_backbone_in_training_mode_either_way() -> None:
    method = csdm(backbone_mode="evaluation")
    before = copied(method)
    method.train_item_embeddings(small_rows(32, items=(8, 12)), seed=0)
    assert any("running_mean" in name for name in changed(method, before))


def test_adapting_rewrites_every_new_item_and_no_other() -> None:
    method, new_item_M = csdm(adapt_learning_rate=1e-9, **CERTAIN), torch.arange(8, 12)
    before = method.backbone.item_embedding.detach().clone()
    block = small_rows(32, items=(8, 11))
    method.adapt(block, new_item_M, seed=0)
    after = method.backbone.item_embedding.detach()
    torch.testing.assert_close(after[:8], before[:8], rtol=0, atol=1e-7)
    torch.testing.assert_close(after[8:], method.generate(block.items, new_item_M))
    assert float((after[11] - before[11]).abs().max()) > 1e-3
    assert method.curve.step == 2 + 2 * 2 * 10


def test_dropout_is_active_while_embeddings_are_generated_after_training() -> None:
    method, items, item_M = csdm(), small_rows().items, torch.arange(4)
    method.fit(small_rows(32), seed=0)
    assert not torch.equal(method.generate(items, item_M), method.generate(items, item_M))


def test_without_diffusion_h_itself_is_decoded() -> None:
    method, rows, item_M = csdm(reverse="none"), small_rows(), torch.tensor([3, 7])
    columns = {**rows.items.select(item_M), "item_id": item_M}
    h_MD = method.encode_side(method.side(columns))
    expected = method.decode(torch.cat([h_MD, columns["count"].unsqueeze(1)], dim=1))
    torch.testing.assert_close(method.generate(rows.items, item_M), expected)
    assert set(method._losses(method._prepare(rows.items, rows.batch))) == {"ctr_loss"}


def test_one_step_goes_from_91_straight_to_the_end() -> None:
    method, rows, item_M = csdm(reverse="one_step", **CERTAIN), small_rows(), torch.tensor([3, 7])
    columns = {**rows.items.select(item_M), "item_id": item_M}
    h_MD = method.encode_side(method.side(columns))
    z0_MD = method.bridge.denoised(h_MD, h_MD, 91, method.unet(h_MD, method.unet.time_parts()[91]))
    expected = method.decode(torch.cat([z0_MD, columns["count"].unsqueeze(1)], dim=1))
    torch.testing.assert_close(method.generate(rows.items, item_M), expected, rtol=1e-4, atol=1e-5)


def test_side_information_is_by_default_everything_about_the_item() -> None:
    assert csdm().side.size == 3 * 16 + 1  # item_id, year, title; count
    assert csdm(side_fields=("year",)).side.size == 16
    with pytest.raises(ValueError, match="side_fields: 'timestamp' has the role 'context'"):
        csdm(side_fields=("timestamp",))
    with pytest.raises(ValueError, match="side_fields: no field 'yaer'"):
        csdm(side_fields=("yaer",))


@pytest.mark.parametrize("names", [("count",), ()])
def test_side_information_without_an_embedding_is_refused(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=rf"^side_fields \[{', '.join(names)}\]: nothing there has an embedding; name"):
        csdm(side_fields=names)


def test_new_items_learn_from_side_information() -> None:
    """The backbone knows items by their ID alone: what the year says reaches new items through the generator."""
    rows, new = hidden(small_rows(4096, items=(0, 8))), hidden(small_rows(512, items=(8, 12), seed=1))
    method = csdm(batch_size=64, learning_rate=0.01, generator_learning_rate=0.01, epochs=3, repetitions=3)
    method.pretrain(rows, seed=0)
    method.fit(rows, seed=0)
    cold = accuracy(method, new.batch)
    with torch.no_grad():
        method.backbone.item_embedding[8:] = method.generate(new.items, torch.arange(8, 12))
    assert cold < 0.7
    assert accuracy(method, new.batch) > 0.9


def hidden(rows: SmallRows) -> SmallRows:
    """Return the rows without what they say of an item but its ID; the table of items still has it."""
    shown = {name: torch.zeros_like(rows.batch.columns[name]) for name in ("year", "title", "count")}
    return SmallRows(CtrBatch({**rows.batch.columns, **shown}, rows.batch.label_B), rows.items)


@torch.no_grad()
def accuracy(method: CSDM, batch: CtrBatch) -> float:
    logits_B = method.backbone.eval()(batch)
    return float(((logits_B > 0) == (batch.label_B > 0.5)).float().mean())
