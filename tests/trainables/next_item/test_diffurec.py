from collections.abc import Callable
from math import cos, prod, sin
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from tests.trainables.next_item.sequence_batches import random_batch
from trainables.base import SequenceBatch
from trainables.diffusion.samplers import sample_by_steps
from trainables.next_item.conformance import CHECKS, Build
from trainables.next_item.denoiser import cosine_features
from trainables.next_item.diffurec import DiffuRec, truncated_linear_variances
from trainables.next_item.transformer import TransformerEncoder


def make(**parameters: object) -> DiffuRec:
    torch.manual_seed(0)
    return DiffuRec(50, 6, size=8, diffusion_steps=4, **parameters).eval()  # type: ignore[arg-type]


def test_schedule_rises_linearly_and_is_truncated_where_it_would_pass_one() -> None:
    beta_T = truncated_linear_variances(32)
    assert beta_T[0].item() == pytest.approx(0.1 / 32 + 0.01)
    assert beta_T[-1].item() == pytest.approx(20 / 32 + 0.01)
    assert beta_T.diff().std().item() == pytest.approx(0, abs=1e-12)
    assert truncated_linear_variances(10)[-1].item() == pytest.approx(1 / 10 + 0.01)
    with pytest.raises(ValueError, match="noise schedule"):
        truncated_linear_variances(1)


@torch.no_grad()
def test_loss_is_the_cross_entropy_of_the_restored_targets() -> None:
    model, batch = make(uncertainty=0.5), random_batch(9)
    torch.manual_seed(1)
    loss = model.loss(batch)

    torch.manual_seed(1)
    time_B = torch.randint(1, 5, (9,))
    noise_BD, lambda_BL1 = torch.randn(9, 8), 0.5 + 0.5 * torch.randn(9, 6, 1)
    kept_B1 = torch.tensor(model.diffusion.alpha_bar)[time_B][:, None]
    x_BD = kept_B1.sqrt() * model.embedding.weight[batch.target_B - 1] + (1 - kept_B1).sqrt() * noise_BD
    x_BD = x_BD + model.time_layers(model.sinusoidal[time_B])
    history_BLD = functional.layer_norm(model.embedding.histories(batch), (8,))
    clean_BD = model.approximator(history_BLD + lambda_BL1 * x_BD[:, None], batch.length_B)
    expected = functional.cross_entropy(clean_BD @ model.embedding.weight.T, batch.target_B.long() - 1)
    torch.testing.assert_close(loss, expected)


@torch.no_grad()
def test_ranking_takes_all_steps_from_noise() -> None:
    """Ho et al.'s ancestral steps written out, the noise of λ drawn before each and that of the step after it."""
    model, batch = make(uncertainty=0.3), random_batch(5)
    torch.manual_seed(1)
    scores_BI = model.rank_scores(batch)

    torch.manual_seed(1)
    history_BLD = functional.layer_norm(model.embedding.histories(batch), (8,))
    x_BD, bar = torch.randn(5, 8), model.diffusion.alpha_bar
    for time in (4, 3, 2, 1):
        lambda_BL1 = 0.3 + 0.3 * torch.randn(5, 6, 1)
        timed_BD = x_BD + model.time_layers(model.sinusoidal[time])
        clean_BD = model.approximator(history_BLD + lambda_BL1 * timed_BD[:, None], batch.length_B)
        alpha, beta = bar[time] / bar[time - 1], 1 - bar[time] / bar[time - 1]
        mean_BD = bar[time - 1] ** 0.5 * beta / (1 - bar[time]) * clean_BD
        mean_BD = mean_BD + alpha**0.5 * (1 - bar[time - 1]) / (1 - bar[time]) * x_BD
        variance = beta * (1 - bar[time - 1]) / (1 - bar[time])
        x_BD = mean_BD + variance**0.5 * torch.randn(5, 8) if time > 1 else mean_BD
    torch.testing.assert_close(scores_BI, x_BD @ model.embedding.weight.T, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_without_uncertainty_the_noise_does_not_matter() -> None:
    model, batch = make(uncertainty=0.0), random_batch(5)
    history_BLD = functional.layer_norm(model.embedding.histories(batch), (8,))
    expected_BI = model.approximator(history_BLD, batch.length_B) @ model.embedding.weight.T
    for seed in range(2):
        torch.manual_seed(seed)
        torch.testing.assert_close(model.rank_scores(batch), expected_BI, atol=1e-5, rtol=1e-5)


def test_learns_what_follows_what() -> None:
    torch.manual_seed(0)
    model, batch = DiffuRec(50, 6, size=32, learning_rate=0.01, diffusion_steps=4), random_batch(64)
    optimizer, losses = model.optimizer(), []
    for _ in range(120):
        optimizer.zero_grad()
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 1 < 3 < losses[0]


def gru_state(model: DiffuRec, noised_BLD: Tensor, length_B: Tensor) -> Tensor:
    """Torch's recurrent layer, a history at a time, without padding [B, D]."""
    layer = model.approximator.layer
    rows = zip(noised_BLD, length_B.tolist(), strict=True)
    return torch.stack([layer(noised_LD[None, :length])[0][0, -1] for noised_LD, length in rows])


@torch.no_grad()
def test_loss_and_ranking_with_a_recurrent_encoder() -> None:
    model, batch = make(uncertainty=0.5, encoder="gru"), random_batch(9)
    torch.manual_seed(1)
    loss, scores_BI = model.loss(batch), model.rank_scores(batch)

    torch.manual_seed(1)
    history_BLD = functional.layer_norm(model.embedding.histories(batch), (8,))
    time_B = torch.randint(1, 5, (9,))
    noise_BD, lambda_BL1 = torch.randn(9, 8), 0.5 + 0.5 * torch.randn(9, 6, 1)
    kept_B1 = torch.tensor(model.diffusion.alpha_bar)[time_B][:, None]
    x_BD = kept_B1.sqrt() * model.embedding.weight[batch.target_B - 1] + (1 - kept_B1).sqrt() * noise_BD
    x_BD = x_BD + model.time_layers(model.sinusoidal[time_B])
    clean_BD = gru_state(model, history_BLD + lambda_BL1 * x_BD[:, None], batch.length_B)
    expected = functional.cross_entropy(clean_BD @ model.embedding.weight.T, batch.target_B.long() - 1)
    torch.testing.assert_close(loss, expected)

    def denoise(x_BD: Tensor, time: int) -> Tensor:
        lambda_BL1 = 0.5 + 0.5 * torch.randn(9, 6, 1)
        timed_BD = x_BD + model.time_layers(model.sinusoidal[time])
        return gru_state(model, history_BLD + lambda_BL1 * timed_BD[:, None], batch.length_B)

    x_BD = sample_by_steps(denoise, torch.randn(9, 8), model.diffusion.ddpm_steps())
    torch.testing.assert_close(scores_BI, x_BD @ model.embedding.weight.T, atol=1e-4, rtol=1e-4)


def test_by_default_the_encoder_is_the_transformer_and_drawn_as_ever() -> None:
    torch.manual_seed(0)
    model, after = DiffuRec(50, 6, size=8, diffusion_steps=4), torch.rand(3)
    torch.manual_seed(0)
    item_ID, encoder = torch.randn(50, 8), TransformerEncoder(8, 6, 0.1, 2)
    time_layers = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.SiLU(), torch.nn.Linear(32, 8))
    assert torch.equal(model.embedding.weight, item_ID)
    for found, drawn in ((model.approximator, encoder), (model.time_layers, time_layers)):
        expected = drawn.state_dict()
        assert found.state_dict().keys() == expected.keys()
        assert all(torch.equal(value, expected[name]) for name, value in found.state_dict().items())
    assert (model.approximator.heads, model.approximator.dropout) == (2, 0.1)
    assert torch.equal(torch.rand(3), after)


def test_the_released_form_has_the_transformer_alone() -> None:
    with pytest.raises(ValueError, match="DiffuRec: variant 'released' has no encoder 'gru'; use variant 'paper'"):
        make(variant="released", encoder="gru")


def released(**parameters: object) -> DiffuRec:
    return make(variant="released", **parameters)


def angles(size: int, time: int, steps: int) -> list[float]:
    """The program's angles, one by one; it counts times from 0."""
    return [(time - 1) * 1000 / steps / 10000 ** (index / (size // 2)) for index in range(size // 2)]


def test_released_times_count_from_0_and_are_stretched_to_1000() -> None:
    for size in (8, 9):
        feature_TD = cosine_features(33, size, 1000 / 32)
        assert feature_TD.shape == (33, size)
        for time in (1, 2, 17, 32):
            angle_F = angles(size, time, 32)
            expected = [*map(cos, angle_F), *map(sin, angle_F), *[0.0] * (size % 2)]
            assert feature_TD[time].tolist() == pytest.approx(expected, abs=2e-4)


def plain_restored(
    model: DiffuRec, batch: SequenceBatch, x_BD: Tensor, time_B: list[int], lambda_BLD: Tensor
) -> Tensor:
    """x̂_0 by the encoder's reference form over histories without positions."""
    angle_BF = torch.tensor([angles(8, time, 4) for time in time_B])
    timed_BD = x_BD + model.time_layers(torch.cat([angle_BF.cos(), angle_BF.sin()], dim=1))
    with torch.random.fork_rng():
        plain = TransformerEncoder(8, 6).eval()
    plain.load_state_dict({**model.approximator.state_dict(), "position_LD": torch.zeros(6, 8)})
    history_BLD = functional.layer_norm(model.embedding.weight[(batch.history_BL.long() - 1).clamp(min=0)], (8,))
    state_BLD = plain.all_positions(history_BLD + lambda_BLD * timed_BD[:, None], batch.length_B)
    return state_BLD[torch.arange(len(batch)), batch.length_B.long() - 1]


@torch.no_grad()
def test_released_loss_has_no_positions_and_draws_lambda_for_every_element() -> None:
    model, batch = released(uncertainty=0.5), random_batch(9)
    torch.manual_seed(1)
    loss = model.loss(batch)

    torch.manual_seed(1)
    time_B = torch.randint(1, 5, (9,))
    noise_BD, lambda_BLD = torch.randn(9, 8), 0.5 + 0.5 * torch.randn(9, 6, 8)
    kept_B1 = torch.tensor(model.diffusion.alpha_bar)[time_B][:, None]
    x_BD = kept_B1.sqrt() * model.embedding.weight[batch.target_B - 1] + (1 - kept_B1).sqrt() * noise_BD
    clean_BD = plain_restored(model, batch, x_BD, time_B.tolist(), lambda_BLD)
    expected = functional.cross_entropy(clean_BD @ model.embedding.weight.T, batch.target_B.long() - 1)
    torch.testing.assert_close(loss, expected)


@torch.no_grad()
def test_released_ranking_adds_noise_of_the_forward_variance() -> None:
    model, batch = released(uncertainty=0.3), random_batch(5)
    torch.manual_seed(1)
    scores_BI = model.rank_scores(batch)

    torch.manual_seed(1)
    beta, x_BD = truncated_linear_variances(4).tolist(), torch.randn(5, 8)
    bar = [prod(1 - value for value in beta[:time]) for time in range(5)]
    for time in (4, 3, 2, 1):
        lambda_BLD = 0.3 + 0.3 * torch.randn(5, 6, 8)
        clean_BD = plain_restored(model, batch, x_BD, [time] * 5, lambda_BLD)
        now = beta[time - 1]
        x_BD = bar[time - 1] ** 0.5 * now * clean_BD + (1 - now) ** 0.5 * (1 - bar[time - 1]) * x_BD
        x_BD = x_BD / (1 - bar[time]) + (now**0.5 * torch.randn(5, 8) if time > 1 else 0.0)
    torch.testing.assert_close(scores_BI, x_BD @ model.embedding.weight.T, atol=1e-4, rtol=1e-4)


@torch.no_grad()
def test_the_order_of_earlier_items_counts_in_the_paper_s_form_alone() -> None:
    history_BL = torch.tensor([[3, 8, 21, 5, 0, 0], [21, 3, 8, 5, 0, 0]], dtype=torch.int32)
    batch = SequenceBatch(history_BL, torch.full((2,), 4), torch.ones(2, dtype=torch.int32))
    for model, same in ((released(uncertainty=0.0), True), (make(uncertainty=0.0), False)):
        first_I, second_I = model.rank_scores(batch)
        assert torch.allclose(first_I, second_I, atol=1e-5) == same
    assert "approximator.position_LD" not in released().state_dict()
    assert "approximator.position_LD" in make().state_dict()


@pytest.mark.parametrize(
    ("parameters", "rate"),
    [
        ({"dropout": 0.2}, 0.2),
        ({"dropout": 0.2, "embedding_dropout": 0.4}, 0.4),
        ({"dropout": 0.2, "embedding_dropout": 0.0}, 0.0),
        ({"dropout": 0.2, "variant": "released"}, 0.3),
        ({"dropout": 0.2, "variant": "released", "embedding_dropout": 0.1}, 0.1),
    ],
)
@torch.no_grad()
def test_embedding_dropout_falls_on_items_before_their_norm(parameters: dict[str, Any], rate: float) -> None:
    """Of items of ones, what is dropped is below the mean, and nothing else is."""
    torch.manual_seed(0)
    model = DiffuRec(50, 6, size=64, uncertainty=0.0, **parameters).train()
    model.embedding.weight.fill_(1.0)
    seen: list[Tensor] = []
    model.approximator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.loss(random_batch(200))
    assert float((seen[0] < 0).float().mean()) == pytest.approx(rate, abs=0.01)
    assert model.approximator.dropout == 0.2


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__.removeprefix("check_that_"))
def test_released_conformance(check: Callable[[Build], None]) -> None:
    check(lambda items, length: DiffuRec(items, length, size=16, diffusion_steps=8, variant="released"))
