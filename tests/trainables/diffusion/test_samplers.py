import pytest
import torch
from torch import Tensor

from trainables.diffusion.gaussian import GaussianDiffusion, ReverseStep
from trainables.diffusion.noise_schedules import linear_variances
from trainables.diffusion.samplers import collapse_affine_chain, sample_by_steps

DIFFUSION = GaussianDiffusion(linear_variances(60, 1e-3, 0.2))


@pytest.mark.parametrize("steps", [DIFFUSION.ddim_steps(6), DIFFUSION.ddpm_steps()], ids=["ddim", "ddpm"])
def test_a_perfect_denoiser_recovers_the_data(steps: list[ReverseStep]) -> None:
    torch.manual_seed(0)
    clean_BD = torch.randn(5, 8)
    sampled_BD = sample_by_steps(lambda x_BD, time: clean_BD.clone(), torch.randn(5, 8), steps)
    torch.testing.assert_close(sampled_BD, clean_BD)


def test_ddpm_of_the_bayes_denoiser_samples_the_data_distribution() -> None:
    """For data N(m, s²) the best x̂_0 is known, and the chain must end in N(m, s²)."""
    torch.manual_seed(0)
    mean, deviation = 1.5, 0.5

    def denoise(x_BD: Tensor, time: int) -> Tensor:
        signal, noise_variance = DIFFUSION.alpha_bar[time] ** 0.5, 1 - DIFFUSION.alpha_bar[time]
        gain = signal * deviation**2 / (signal**2 * deviation**2 + noise_variance)
        return mean + gain * (x_BD - signal * mean)

    x_BD = sample_by_steps(denoise, torch.randn(30_000, 1), DIFFUSION.ddpm_steps())
    assert float(x_BD.mean()) == pytest.approx(mean, abs=0.02)
    # Few, coarse steps leave the variance slightly low.
    assert float(x_BD.std()) == pytest.approx(deviation, rel=0.1)


def propagate(
    weight_DD: Tensor, time_SD: Tensor, steps: list[ReverseStep], context_BD: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean [B, D] and covariance [D, D] of x_0, one step after the other."""
    size = len(weight_DD)
    mean_BD, covariance_DD = torch.zeros_like(context_BD), torch.eye(size, dtype=weight_DD.dtype)
    for step, time_D in zip(steps, time_SD, strict=True):
        gain_DD = step.of_clean * weight_DD + step.of_noisy * torch.eye(size, dtype=weight_DD.dtype)
        mean_BD = mean_BD @ gain_DD.T + step.of_clean * (context_BD + time_D)
        covariance_DD = gain_DD @ covariance_DD @ gain_DD.T + step.noise**2 * torch.eye(size, dtype=weight_DD.dtype)
    return mean_BD, covariance_DD


@pytest.mark.parametrize("steps", [DIFFUSION.ddpm_steps(), DIFFUSION.ddim_steps(7)], ids=["ddpm", "ddim"])
def test_collapsed_chain_has_the_distribution_of_the_steps(steps: list[ReverseStep]) -> None:
    torch.manual_seed(0)
    weight_DD, context_BD = torch.randn(6, 6).double() * 0.4, torch.randn(3, 6).double()
    time_SD = torch.randn(len(steps), 6).double()
    chain = collapse_affine_chain(weight_DD, time_SD, steps)
    assert chain is not None
    mean_BD, covariance_DD = propagate(weight_DD, time_SD, steps, context_BD)
    torch.testing.assert_close(context_BD @ chain.response_DD.T + chain.offset_D, mean_BD)
    torch.testing.assert_close(chain.factor_DD @ chain.factor_DD.T, covariance_DD)


def test_collapsed_chain_agrees_with_sampling_by_steps() -> None:
    torch.manual_seed(0)
    steps, count = DIFFUSION.ddpm_steps(), 30_000
    weight_DD, context_BD = torch.randn(3, 3) * 0.4, torch.randn(1, 3).expand(count, 3)
    time_SD = torch.randn(len(steps), 3)
    by_time = dict(zip((step.time for step in steps), time_SD, strict=True))

    def denoise(x_BD: Tensor, time: int) -> Tensor:
        return x_BD @ weight_DD.T + context_BD + by_time[time]

    stepped_BD = sample_by_steps(denoise, torch.randn(count, 3), steps)
    chain = collapse_affine_chain(weight_DD, time_SD, steps)
    assert chain is not None
    drawn_BD = chain.sample(context_BD)
    torch.testing.assert_close(drawn_BD.mean(0), stepped_BD.mean(0), atol=0.03, rtol=0.03)
    torch.testing.assert_close(drawn_BD.T.cov(), stepped_BD.T.cov(), atol=0.03, rtol=0.03)


def test_a_weight_without_a_basis_of_eigenvectors_is_not_collapsed() -> None:
    jordan_DD = torch.eye(4) + torch.diag(torch.ones(3), 1)
    assert collapse_affine_chain(jordan_DD, torch.zeros(60, 4), DIFFUSION.ddpm_steps()) is None


def test_a_weight_that_is_not_finite() -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        collapse_affine_chain(torch.full((2, 2), torch.nan), torch.zeros(60, 2), DIFFUSION.ddpm_steps())
