from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from tests.trainables.small_rows import FIELDS, small_rows
from trainables.base import CtrBatch
from trainables.cold_start.cvar import CVAR, Latent, wasserstein
from trainables.ctr.deepfm import DeepFM


def cvar(**parameters: Any) -> CVAR:
    torch.manual_seed(0)
    method = CVAR(DeepFM(FIELDS, dropout=0.0), **{"batch_size": 16, **parameters})
    for parameter in method.parameters():  # away from ±0.01, where all outputs are alike
        torch.nn.init.normal_(parameter, std=0.3)
    return method


def rows_by_hand(method: CVAR, batch: CtrBatch) -> tuple[Tensor, Tensor, Tensor]:
    """Return each row's generated logit, reconstruction error and Wasserstein distance, without noise."""
    table = small_rows().items
    logits, errors, distances = [], [], []
    for row, item in enumerate(batch.columns["item_id"].tolist()):
        one = torch.tensor([item])
        columns = {**table.select(one), "item_id": one}
        side, embedding = method.side(columns)[0], method.backbone.item_embedding[item]
        of_side, of_embedding = method.encode_side, method.encode_embedding
        mean_p = of_side.mean.weight @ side + of_side.mean.bias
        deviation_p = (of_side.log_variance.weight @ side + of_side.log_variance.bias).exp().sqrt()
        mean = of_embedding.mean.weight @ embedding + of_embedding.mean.bias
        deviation = (of_embedding.log_variance.weight @ embedding + of_embedding.log_variance.bias).exp().sqrt()
        decoded, decoded_p = (
            method.decode.weight @ torch.cat([z, columns["count"]]) + method.decode.bias for z in (mean, mean_p)
        )
        errors.append(((decoded - embedding) ** 2).sum())
        distances.append(((mean - mean_p) ** 2).sum() + ((deviation - deviation_p) ** 2).sum())
        alone = CtrBatch({name: column[row : row + 1] for name, column in batch.columns.items()}, batch.label_B[row:])
        logits.append(method.backbone.interact(method.backbone.embed(alone).with_item(decoded_p.unsqueeze(0)))[0])
    return torch.stack(logits), torch.stack(errors), torch.stack(distances)


@pytest.mark.parametrize("draws", ["item", "row"])
def test_the_losses_of_a_batch_row_by_row(draws: str) -> None:
    method, batch = cvar(latent_noise=0.0, draws=draws, reconstruction_weight=0.5), small_rows(48).batch
    method.backbone.eval()
    found = method._losses(method._prepare(small_rows().items, batch))
    logits_B, error_B, distance_B = rows_by_hand(method, batch)
    expected = {
        "ctr_loss": F.binary_cross_entropy_with_logits(logits_B, batch.label_B),
        "weighted_reconstruction_loss": 0.5 * error_B.mean(),
        "weighted_alignment_loss": 1e-4 * distance_B.sum(),
    }
    assert found.keys() == expected.keys()
    for name, loss in expected.items():
        torch.testing.assert_close(found[name], loss, rtol=1e-4, atol=1e-6)


def test_the_distance_is_that_of_full_covariances() -> None:
    """tr(A + B − 2 (A^½ B A^½)^½) + ‖a − b‖², the general form."""
    torch.manual_seed(0)
    one, other = (Latent(torch.randn(1, 3), torch.rand(1, 3) + 0.1) for _ in range(2))
    a, b = one.deviation_MZ[0].square().diag(), other.deviation_MZ[0].square().diag()
    values, vectors = torch.linalg.eigh(a.sqrt() @ b @ a.sqrt())
    cross = vectors @ values.clamp(min=0).sqrt().diag() @ vectors.T
    expected = torch.trace(a + b - 2 * cross) + (one.mean_MZ - other.mean_MZ).square().sum()
    torch.testing.assert_close(wasserstein(one, other)[0], expected)


def test_alignment_is_a_sum_and_the_others_are_means_over_the_batch() -> None:
    method, batch = cvar(latent_noise=0.0), small_rows(16).batch
    method.backbone.eval()
    twice = CtrBatch({name: torch.cat([column] * 2) for name, column in batch.columns.items()}, batch.label_B.repeat(2))
    once_losses, twice_losses = (method._losses(method._prepare(small_rows().items, b)) for b in (batch, twice))
    for name, loss in once_losses.items():
        factor = 2 if name == "weighted_alignment_loss" else 1
        torch.testing.assert_close(twice_losses[name], factor * loss)


def test_latent_noise_is_scaled_and_can_be_off() -> None:
    items, item_M = small_rows().items, torch.arange(4).repeat(2000)
    still = cvar(latent_noise=0.0).generate(items, item_M)
    assert torch.equal(still[:4], still[4:8])
    deviations = [(cvar(latent_noise=scale).generate(items, item_M) - still).std() for scale in (0.1, 1.0)]
    torch.testing.assert_close(deviations[1] / deviations[0], torch.tensor(10.0), rtol=0.05, atol=0.0)


def test_noise_has_the_encoded_deviation() -> None:
    method, items, item_M = cvar(latent_noise=1.0), small_rows().items, torch.full((20000,), 3)
    with torch.no_grad():
        torch.nn.init.eye_(method.decode.weight)
        deviation_Z = method.encode_side(method.side(method._columns(items, item_M[:1]))).deviation_MZ[0]
    torch.testing.assert_close(method.generate(items, item_M).std(dim=0), deviation_Z, rtol=0.05, atol=0.0)


def test_networks_start_small_and_side_embeddings_standard_normal() -> None:
    method = CVAR(DeepFM(FIELDS))
    for module in (method.encode_side, method.encode_embedding, method.decode):
        assert all(float(parameter.detach().abs().max()) <= 0.01 for parameter in module.parameters())
    assert float(method.side.sums.table_VD.detach().std()) == pytest.approx(1.0, abs=0.15)


def test_the_fast_path_through_the_backbone_gives_the_same_losses() -> None:
    method, batch = cvar(latent_noise=0.0), small_rows(48).batch
    method.backbone.eval()
    prepared = method._prepare(small_rows().items, batch)
    generated_BD = method.generate(small_rows().items, batch.columns["item_id"].long())
    direct_B = method.backbone.interact(method.backbone.embed(batch).with_item(generated_BD))
    torch.testing.assert_close(prepared.item_to_logits(generated_BD), direct_B, rtol=1e-4, atol=1e-5)


def test_fitting_uses_each_batch_ten_times_and_leaves_the_backbone_alone() -> None:
    method = cvar()
    before = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    method.fit(small_rows(64), seed=0)
    changed = {name for name, parameter in method.named_parameters() if not torch.equal(parameter, before[name])}
    assert method.curve.step == 4 * 10
    assert {name.split(".")[0] for name in changed} == {"side", "encode_side", "encode_embedding", "decode"}


def test_each_batch_trains_the_generator_twice_at_its_own_rate() -> None:
    """Three batches, each used twice, with torch's Adam; losses row by row."""
    given: dict[str, Any] = {"latent_noise": 0.0, "backbone_mode": "evaluation", "repetitions": 2}
    method, twin = (cvar(generator_learning_rate=0.02, learning_rate=0.5, **given) for _ in range(2))
    rows, start = small_rows(48), twin.decode.weight.detach().clone()
    twin.backbone.eval()
    trained = [
        p for module in (twin.side, twin.encode_side, twin.encode_embedding, twin.decode) for p in module.parameters()
    ]
    optimizer = torch.optim.Adam(trained, lr=0.02, weight_decay=1e-6)
    for batch in rows.batches(16, shuffle_seed=5):
        for _ in range(2):
            logits_B, error_B, distance_B = rows_by_hand(twin, batch)
            ctr_loss = F.binary_cross_entropy_with_logits(logits_B, batch.label_B)
            optimizer.zero_grad()
            (ctr_loss + error_B.mean() + 1e-4 * distance_B.sum()).backward()
            optimizer.step()
    method.fit(rows, seed=5)
    assert float((twin.decode.weight.detach() - start).abs().max()) > 0.05
    expected = dict(twin.named_parameters())
    for name, found in method.named_parameters():
        torch.testing.assert_close(found, expected[name], rtol=1e-3, atol=1e-4)


def test_adapting_rewrites_every_new_item() -> None:
    method, new_item_M = cvar(latent_noise=0.0, adapt_learning_rate=1e-9), torch.arange(8, 12)
    before = method.backbone.item_embedding.detach().clone()
    block = small_rows(32, items=(8, 11))
    method.adapt(block, new_item_M, seed=0)
    after = method.backbone.item_embedding.detach()
    torch.testing.assert_close(after[:8], before[:8], rtol=0, atol=1e-7)
    torch.testing.assert_close(after[8:], method.generate(block.items, new_item_M))
    assert method.curve.step == 2 + 2 * 2 * 10


def test_the_loss_falls() -> None:
    points: list[tuple[str, float, int]] = []
    torch.manual_seed(0)
    method = CVAR(DeepFM(FIELDS), batch_size=64, generator_learning_rate=0.01, learning_rate=0.01)
    rows = small_rows(1024)
    method.pretrain(rows, seed=0)
    method.fit(rows, seed=0, log=lambda *point: points.append(point))
    for name in ("ctr_loss", "weighted_reconstruction_loss"):
        values = [value for point, value, _ in points if point == f"fit/{name}"]
        assert values[-1] < values[0]
