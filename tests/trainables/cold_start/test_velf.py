from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch.distributions import Normal, kl_divergence

from tests.trainables.small_rows import FIELDS as WITHOUT_USER_FIELDS
from tests.trainables.small_rows import small_rows
from trainables.cold_start.conformance import FIELDS, HOT, NEW, item_table, rows_of
from trainables.cold_start.velf import VELF, Gaussian
from trainables.ctr.deepfm import DeepFM


def velf(**parameters: Any) -> VELF:
    torch.manual_seed(0)
    method = VELF(DeepFM(FIELDS, dropout=0.0), **{"batch_size": 16, **parameters})
    for parameter in method.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return method


def normal(gaussian: Gaussian) -> Normal:
    return Normal(gaussian.mean_BD, gaussian.log_variance_BD.exp().sqrt())


def test_the_divergence_is_that_of_torch() -> None:
    torch.manual_seed(0)
    posterior, prior = (Gaussian(torch.randn(5, 3), torch.randn(5, 3)) for _ in range(2))
    expected_B = kl_divergence(normal(posterior), normal(prior)).sum(dim=1)
    torch.testing.assert_close(posterior.divergence_from(prior), expected_B)
    torch.testing.assert_close(posterior.divergence_from(posterior), torch.zeros(5))


def test_noise_has_the_posterior_s_deviation() -> None:
    torch.manual_seed(0)
    gaussian = Gaussian(torch.zeros(50_000, 2), torch.tensor([0.04, 9.0]).log().expand(50_000, 2))
    torch.testing.assert_close(gaussian.noise().std(dim=0), torch.tensor([0.2, 3.0]), rtol=0.02, atol=0.0)


def test_the_bound_of_a_batch_by_hand() -> None:
    method, batch = velf(kl_weight=0.3, prior_weight=0.07), rows_of(HOT, 24).batch
    method.backbone.eval()
    user_B, item_B = batch.columns["user_id"].long(), batch.columns["item_id"].long()
    values = method.backbone.embed(batch)
    embedded = {
        name: values.embedded_BFD[:, i] for i, name in enumerate(("user_id", "age", "item_id", "year", "title"))
    }
    start = math.log(0.01)
    item_posterior = Gaussian(embedded["item_id"], start + method.item.log_variance_ID[item_B])
    user_posterior = Gaussian(embedded["user_id"], start + method.user.log_variance_ID[user_B])
    item_side = torch.cat([embedded["year"], embedded["title"], batch.columns["count"].unsqueeze(1)], dim=1)
    item_mean, item_variance = method.item.prior_network(item_side).split(16, dim=1)
    user_mean, user_variance = method.user.prior_network(embedded["age"]).split(16, dim=1)
    priors = Gaussian(item_mean, start + item_variance), Gaussian(user_mean, start + user_variance)
    divergences = [
        kl_divergence(normal(posterior), normal(prior)).sum(dim=1).mean()
        for posterior, prior in zip((item_posterior, user_posterior), priors, strict=True)
    ]
    held = [kl_divergence(normal(prior), Normal(0.0, 1.0)).sum(dim=1).mean() for prior in priors]
    torch.manual_seed(7)
    drawn = values.embedded_BFD.clone()
    drawn[:, 2] = item_posterior.mean_BD + item_posterior.log_variance_BD.exp().sqrt() * torch.randn(24, 16)
    drawn[:, 0] = user_posterior.mean_BD + user_posterior.log_variance_BD.exp().sqrt() * torch.randn(24, 16)
    logits_B = method.backbone.interact(type(values)(drawn, values.numbers_BN, values.item_field))
    torch.manual_seed(7)
    found = method.losses(batch)
    torch.testing.assert_close(found["ctr_loss"], F.binary_cross_entropy_with_logits(logits_B, batch.label_B))
    torch.testing.assert_close(found["weighted_divergence"], 0.3 * (divergences[0] + divergences[1]))
    torch.testing.assert_close(found["weighted_prior_divergence"], 0.07 * (held[0] + held[1]))


def test_all_start_at_the_initial_deviation() -> None:
    method = VELF(DeepFM(FIELDS), initial_deviation=0.5)
    batch = rows_of(HOT, 8).batch
    values = method.backbone.embed(batch)
    assert torch.all(method.item.posterior(values, batch).log_variance_BD == math.log(0.25))
    torch.testing.assert_close(
        method.user.prior(values).log_variance_BD.exp().sqrt(), torch.full((8, 16), 0.5), rtol=0.02, atol=0.0
    )


def test_new_items_start_from_their_prior_s_mean() -> None:
    method, item_M = velf(), torch.tensor(NEW)
    columns = item_table().select(item_M)
    table = method.backbone.embeddings.others(  # type: ignore[operator,union-attr]
        {"user_id": torch.zeros(4, dtype=torch.int32), "age": torch.zeros(4, dtype=torch.int32), **columns}
    )
    side_MS = torch.cat([table[:, 2], table[:, 3], columns["count"].unsqueeze(1)], dim=1)
    torch.testing.assert_close(method.generate(item_table(), item_M), method.item.prior_network(side_MS)[:, :16])


def test_an_item_s_prior_does_not_know_its_id() -> None:
    method = velf()
    before = method.generate(item_table(), torch.tensor(NEW))
    with torch.no_grad():
        method.backbone.item_embedding.add_(1.0)
    assert torch.equal(method.generate(item_table(), torch.tensor(NEW)), before)


def test_users_without_side_information_share_one_prior() -> None:
    torch.manual_seed(0)
    method = VELF(DeepFM(WITHOUT_USER_FIELDS), batch_size=16)
    prior = method.user.prior(method.backbone.embed(small_rows(8).batch))
    assert torch.equal(prior.mean_BD, prior.mean_BD[:1].expand(8, -1))
    method.pretrain(small_rows(32), seed=0)


def test_a_warm_block_trains_the_items_posteriors_alone() -> None:
    method = velf()
    before = {name: parameter.detach().clone() for name, parameter in method.named_parameters()}
    method.adapt(rows_of(NEW, 32), torch.tensor(NEW), seed=0)
    changed = {name for name, parameter in method.named_parameters() if not torch.equal(parameter, before[name])}
    assert changed == {"backbone.embeddings.item_ID", "item.log_variance_ID"}


def test_a_heavy_divergence_draws_posteriors_to_the_prior() -> None:
    distances = []
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        method = VELF(DeepFM(FIELDS), batch_size=16, kl_weight=weight, learning_rate=0.01, epochs=4)
        method.pretrain(rows_of(HOT, 320), seed=0)
        mean_MD = method.generate(item_table(), torch.tensor(HOT))
        distances.append(float((method.backbone.item_embedding.detach()[list(HOT)] - mean_MD).norm()))
    assert distances[1] < 0.5 * distances[0]


def test_its_pretraining_is_its_own() -> None:
    assert not VELF.shares_pretraining
