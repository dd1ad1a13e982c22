import math

import pytest
import torch

from trainables.diffusion.gaussian import GaussianDiffusion
from trainables.diffusion.noise_schedules import linear_variances


def make(steps: int = 50) -> GaussianDiffusion:
    return GaussianDiffusion(linear_variances(steps, 1e-4, 0.05))


def test_linear_schedule_by_hand() -> None:
    assert linear_variances(3, 0.1, 0.3).tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert GaussianDiffusion(linear_variances(3, 0.1, 0.3)).alpha_bar == pytest.approx([1, 0.9, 0.72, 0.504])


@pytest.mark.parametrize(("first", "last"), [(0.0, 0.1), (0.1, 1.0), (-0.1, 0.1)])
def test_schedule_leaves_its_range(first: float, last: float) -> None:
    with pytest.raises(ValueError, match="noise schedule"):
        linear_variances(3, first, last)


def test_noised_moments_by_monte_carlo() -> None:
    torch.manual_seed(0)
    diffusion, clean_BD = make(), torch.tensor([[2.0, -1.0]]).expand(200_000, 2)
    for time in (1, 20, 50):
        noised_BD = diffusion.noised(clean_BD, torch.full((200_000,), time), torch.randn(200_000, 2))
        alpha_bar = math.prod(1 - beta for beta in linear_variances(50, 1e-4, 0.05).tolist()[:time])
        tolerance = 5 * math.sqrt((1 - alpha_bar) / 200_000)
        assert noised_BD.mean(0).tolist() == pytest.approx([2 * alpha_bar**0.5, -(alpha_bar**0.5)], abs=tolerance)
        assert noised_BD.var(0).tolist() == pytest.approx([1 - alpha_bar] * 2, rel=0.02)


def test_noised_takes_each_rows_time_in_any_shape() -> None:
    diffusion, clean_BND = make(), torch.randn(3, 4, 5)
    time_B, noise_BND = torch.tensor([1, 25, 50]), torch.randn(3, 4, 5)
    together = diffusion.noised(clean_BND, time_B, noise_BND)
    for row in range(3):
        for negative in range(4):
            alone = diffusion.noised(clean_BND[row, negative][None], time_B[row][None], noise_BND[row, negative][None])
            torch.testing.assert_close(together[row, negative], alone[0])


def test_ddpm_step_is_the_normalized_product_of_two_normals() -> None:
    """q(x_{t−1} | x_t, x_0) ∝ q(x_t | x_{t−1}) q(x_{t−1} | x_0): precisions add up, means weighted by them."""
    beta_T = linear_variances(50, 1e-4, 0.05).tolist()
    for step in make().ddpm_steps()[:-1]:
        beta = beta_T[step.time - 1]
        before = math.prod(1 - value for value in beta_T[: step.time - 1])
        precision = (1 - beta) / beta + 1 / (1 - before)
        assert step.noise**2 == pytest.approx(1 / precision)
        assert step.of_noisy == pytest.approx((1 - beta) ** 0.5 / beta / precision)
        assert step.of_clean == pytest.approx(before**0.5 / (1 - before) / precision)


def test_last_ddpm_step_returns_the_prediction() -> None:
    first, *_, last = make().ddpm_steps()
    assert (first.time, last.time) == (50, 1)
    assert last.of_clean == pytest.approx(1)
    assert (last.of_noisy, last.noise) == (0, 0)


def test_ddim_visits_21_times_of_2000() -> None:
    steps = GaussianDiffusion(linear_variances(2000, 1e-4, 0.02)).ddim_steps(20)
    assert [step.time for step in steps] == [*range(2000, 0, -100), 1]


def test_ddim_step_by_the_papers_equations() -> None:
    diffusion = make()
    noisy, clean = 1.7, -0.4
    steps = diffusion.ddim_steps(5)
    for step, before in zip(steps, [*[later.time for later in steps[1:]], 0], strict=True):
        now, then = diffusion.alpha_bar[step.time], diffusion.alpha_bar[before]
        noise = (noisy - now**0.5 * clean) / (1 - now) ** 0.5  # eq. 16
        expected = then**0.5 * clean + (1 - then) ** 0.5 * noise  # eq. 18
        assert step.of_clean * clean + step.of_noisy * noisy == pytest.approx(expected)


def test_ddim_asks_for_too_many_steps() -> None:
    with pytest.raises(ValueError, match="51 steps of a diffusion with 50"):
        make().ddim_steps(51)
