import pytest
import torch
from torch.nn import functional

from tests.trainables.next_item.sequence_batches import random_batch
from trainables.next_item.diffurec import DiffuRec, truncated_linear_variances


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
