from __future__ import annotations

import pytest
import torch
from torch import Tensor

from trainables.diffusion.bridge import SideInformationBridge
from trainables.diffusion.schedules import csdm_schedule


def bridge(steps: int = 100, beta: float = 1e-5, released: bool = False) -> SideInformationBridge:
    alpha, c = csdm_schedule(steps, beta)
    return SideInformationBridge(alpha, c if released else c.sqrt())


def marginal(steps: int, beta: float, t: int) -> tuple[float, float, float]:
    """Return √α_t, √c_t and 1 − α_t: the mean's coefficients and the variance of eq. 7."""
    alpha, c = csdm_schedule(steps, beta)
    return float(alpha[t]) ** 0.5, float(c[t]) ** 0.5, 1 - float(alpha[t])


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_induction_the_reverse_step_takes_one_marginal_to_the_next(sigma: float) -> None:
    steps, beta = 12, 0.05
    for t in range(2, steps + 1):
        for to in {t - 1, max(1, t - 5)}:
            kappa, lambda_, nu = bridge(steps, beta).posterior(t, to, sigma)
            on_z0, on_h, variance = marginal(steps, beta, t)
            moved = (kappa * on_z0 + lambda_, kappa * on_h + nu, kappa**2 * variance + sigma**2)
            assert moved == pytest.approx(marginal(steps, beta, to), rel=1e-9)


@pytest.mark.parametrize("sigma", [0.0, 0.15])
def test_monte_carlo_of_equation_7(sigma: float) -> None:
    """Start at T and walk down with the posterior: the samples at every t have eq. 7's mean and variance."""
    torch.manual_seed(0)
    steps, beta, samples = 8, 0.05, 200_000
    z0, h = torch.tensor(0.7), torch.tensor(-1.3)
    walk = bridge(steps, beta)
    z_M = walk.noised(
        z0.expand(samples, 1), h.expand(samples, 1), torch.full((samples,), steps), torch.randn(samples, 1)
    )
    for t in range(steps, 1, -1):
        kappa, lambda_, nu = walk.posterior(t, t - 1, sigma)
        z_M = kappa * z_M + lambda_ * z0 + nu * h + sigma * torch.randn_like(z_M)
        on_z0, on_h, variance = marginal(steps, beta, t - 1)
        mean_error = 4 * (variance / samples) ** 0.5
        assert float(z_M.mean()) == pytest.approx(float(on_z0 * z0 + on_h * h), abs=mean_error)
        assert float(z_M.var()) == pytest.approx(variance, rel=0.02)


@pytest.mark.parametrize(("t", "to"), [(91, 81), (2, 1), (1, 0)])
def test_the_reverse_step_is_equation_10_as_printed(t: int, to: int) -> None:
    z, h, noise = torch.randn(3, 5, 16, dtype=torch.float64)
    alpha, c = csdm_schedule()
    predicted = (z - c[t].sqrt() * h - (1 - alpha[t]).sqrt() * noise) / alpha[t].sqrt()
    printed = alpha[to].sqrt() * predicted + (1 - alpha[to]).sqrt() * noise + c[to].sqrt() * h
    torch.testing.assert_close(bridge().reverse_step(z, h, t, to, noise), printed)
    torch.testing.assert_close(bridge().denoised(z, h, t, noise), predicted)


@pytest.mark.parametrize(("t", "to"), [(91, 81), (2, 1), (1, 0)])
def test_a_reverse_step_with_sigma_is_equation_10_with_its_noise(t: int, to: int) -> None:
    """The predicted noise keeps √(1 − α_to − σ²), and σ times fresh noise is added; the last step has none."""
    torch.manual_seed(0)
    z, h, noise = torch.randn(3, 5, 16, dtype=torch.float64)
    alpha, c = csdm_schedule()
    sigma = 0.5 * float(1 - alpha[to]) ** 0.5 if to else 0.003
    predicted = (z - c[t].sqrt() * h - (1 - alpha[t]).sqrt() * noise) / alpha[t].sqrt()
    torch.manual_seed(1)
    fresh = torch.randn_like(z)
    printed = alpha[to].sqrt() * predicted + c[to].sqrt() * h + (1 - alpha[to] - sigma**2).clamp(min=0).sqrt() * noise
    torch.manual_seed(1)
    stepped = bridge().reverse_step(z, h, t, to, noise, sigma)
    torch.testing.assert_close(stepped, printed + sigma * fresh if to else predicted)


@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("stride", [1, 5, 10])
def test_a_perfect_denoiser_recovers_z0(stride: int, released: bool) -> None:
    """With h noised to the first step as z_t and the true noise at every step, the reverse process ends at z_0."""
    torch.manual_seed(0)
    alpha, c = csdm_schedule(100, 1e-3)
    side = c if released else c.sqrt()
    walk = SideInformationBridge(alpha, side)
    z0, h = torch.randn(2, 4, 16, dtype=torch.float64)

    def true_noise(z: Tensor, t: int) -> Tensor:
        return (z - alpha[t].sqrt() * z0 - side[t] * h) / (1 - alpha[t]).sqrt()

    z0_again = walk.reverse(h, true_noise, walk.sub_sequence(stride))
    torch.testing.assert_close(z0_again, z0, rtol=1e-6, atol=1e-6)


def test_the_sub_sequences_of_the_paper() -> None:
    assert bridge().sub_sequence(10) == (91, 81, 71, 61, 51, 41, 31, 21, 11, 1)
    assert bridge().sub_sequence(5)[:2] == (96, 91) and len(bridge().sub_sequence(5)) == 20


def test_what_is_left_of_h_without_noise_is_the_signal() -> None:
    """From z = h with ε = 0 every step keeps √(α_to/α_t) of what h is not accounted for."""
    h = torch.ones(1, 1, dtype=torch.float64)
    alpha, c = csdm_schedule()
    z0 = bridge().reverse(h, lambda z, t: torch.zeros_like(z), bridge().sub_sequence(10))
    assert float(z0) == pytest.approx((1 - float(c[91]) ** 0.5) / float(alpha[91]) ** 0.5, rel=1e-9)


def test_impossible_steps_are_refused() -> None:
    with pytest.raises(ValueError, match="go down"):
        bridge().posterior(5, 5)
    with pytest.raises(ValueError, match="may be at most"):
        bridge().posterior(5, 4, sigma=0.5)
    with pytest.raises(ValueError, match="give two"):
        SideInformationBridge(torch.ones(3), torch.ones(4))
