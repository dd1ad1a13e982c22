import math

import pytest
import torch
from torch import Tensor

from trainables.diffusion import affine_chain as module
from trainables.diffusion.affine_chain import AffineChain, affine_chain
from trainables.diffusion.gaussian import GaussianDiffusion, ReverseStep
from trainables.diffusion.noise_schedules import linear_variances
from trainables.diffusion.samplers import sample_by_steps

SHORT = GaussianDiffusion(linear_variances(60, 1e-3, 0.2))
PUBLISHED = GaussianDiffusion(linear_variances(2000, 1e-4, 0.02))
JORDAN_DD = torch.eye(6).double() + torch.diag(torch.ones(5), 1)


def random_weight(norm: float, size: int = 6) -> Tensor:
    weight_DD = torch.randn(size, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return weight_DD * norm / torch.linalg.matrix_norm(weight_DD, 2)


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


def moments(chain: AffineChain, context_BD: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x_0 from the chain's own linear map: each noise is set to one in turn."""
    size = context_BD.shape[1]
    nothing_BND = context_BD.new_zeros(len(context_BD), chain.noises, size)
    each_MND = torch.eye(chain.noises * size, dtype=context_BD.dtype).view(-1, chain.noises, size)
    none_MD = context_BD.new_zeros(len(each_MND), size)
    effect_MD = chain.run(none_MD, each_MND) - chain.run(none_MD, torch.zeros_like(each_MND))
    return chain.run(context_BD, nothing_BND), effect_MD.T @ effect_MD


@pytest.mark.parametrize(
    "steps",
    [SHORT.ddpm_steps(), SHORT.ddim_steps(7), PUBLISHED.ddpm_steps()],
    ids=["ddpm", "ddim", "ddpm, 2,000 steps"],
)
@pytest.mark.parametrize(
    "weight_DD",
    [random_weight(0.7), random_weight(3.0), torch.zeros(6, 6).double(), JORDAN_DD],
    ids=["norm 0.7", "norm 3", "zero", "no basis of eigenvectors"],
)
def test_has_the_distribution_of_the_steps(weight_DD: Tensor, steps: list[ReverseStep]) -> None:
    torch.manual_seed(0)
    time_SD, context_BD = torch.randn(len(steps), 6).double(), torch.randn(3, 6).double()
    mean_BD, covariance_DD = propagate(weight_DD, time_SD, steps, context_BD)
    found_BD, found_DD = moments(affine_chain(weight_DD, time_SD, steps), context_BD)
    torch.testing.assert_close(found_BD, mean_BD, atol=1e-7, rtol=1e-6)
    torch.testing.assert_close(found_DD, covariance_DD, atol=1e-7, rtol=1e-6)


@pytest.mark.parametrize("weight_DD", [random_weight(0.7, 64), -random_weight(2.0, 64).square()])
def test_float32_loses_no_more_than_its_own_digits(weight_DD: Tensor) -> None:
    torch.manual_seed(0)
    steps, context_BD = PUBLISHED.ddpm_steps(), torch.randn(5, 64).double()
    time_SD = torch.randn(len(steps), 64).double()
    mean_BD, _ = propagate(weight_DD, time_SD, steps, context_BD)
    chain = affine_chain(weight_DD.float(), time_SD.float(), steps)
    found_BD = chain.run(context_BD.float(), torch.zeros(5, chain.noises, 64))
    assert float((found_BD - mean_BD).norm() / mean_BD.norm()) < 1e-5


def test_agrees_with_sampling_by_steps() -> None:
    torch.manual_seed(0)
    steps, count = SHORT.ddpm_steps(), 30_000
    weight_DD, context_BD = torch.randn(3, 3) * 0.4, torch.randn(1, 3).expand(count, 3)
    time_SD = torch.randn(len(steps), 3)
    by_time = dict(zip((step.time for step in steps), time_SD, strict=True))

    def denoise(x_BD: Tensor, time: int) -> Tensor:
        return x_BD @ weight_DD.T + context_BD + by_time[time]

    stepped_BD = sample_by_steps(denoise, torch.randn(count, 3), steps)
    drawn_BD = affine_chain(weight_DD, time_SD, steps).sample(context_BD)
    torch.testing.assert_close(drawn_BD.mean(0), stepped_BD.mean(0), atol=0.03, rtol=0.03)
    torch.testing.assert_close(drawn_BD.T.cov(), stepped_BD.T.cov(), atol=0.03, rtol=0.03)


def test_takes_few_products_and_noises_for_the_published_steps() -> None:
    """|W| = 0.7 is what DreamRec at size 3072 has on Amazon Beauty after four epochs."""
    steps = PUBLISHED.ddpm_steps()
    chain = affine_chain(random_weight(0.7), torch.zeros(len(steps), 6).double(), steps)
    products = sum(stage.mix_KQ.shape[0] - 1 for stage in chain.stages)
    assert products < 40
    assert chain.noises < 25


def test_a_stage_keeps_the_powers_that_count() -> None:
    """Of e^r's series the terms up to rᵏ / k! ≤ 10⁻⁸; never more powers than steps can raise."""
    assert module._powers(1.0, 1000) == 12
    assert 1 / math.factorial(12) < 1e-8 < 1 / math.factorial(11)
    assert module._powers(1.0, 3) == 4
    assert module._powers(float("inf"), 1) == 2
    assert module._powers(0.0, 5) == 1


def test_rows_are_drawn_alike_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    steps, context_BD = SHORT.ddpm_steps(), torch.randn(7, 16).double()
    chain = affine_chain(random_weight(0.7, 16), torch.zeros(60, 16).double(), steps)
    torch.manual_seed(1)
    together_BD = chain.sample(context_BD)
    monkeypatch.setattr(module, "ROWS_AT_ONCE", 2)
    torch.manual_seed(1)
    torch.testing.assert_close(chain.sample(context_BD), together_BD)


def test_a_weight_that_is_not_finite() -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        affine_chain(torch.full((2, 2), torch.nan), torch.zeros(60, 2), SHORT.ddpm_steps())
