import pytest
import torch
from torch import Tensor

from trainables.diffusion.gaussian import GaussianDiffusion, ReverseStep
from trainables.diffusion.noise_schedules import linear_variances
from trainables.diffusion.samplers import sample_by_steps

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
