"""The reverse chain of an affine denoiser, many steps at a time: each stage of steps is one polynomial of its weight.

Legend: B rows of a batch, D embedding size, S reverse steps, K powers of the weight (0, 1, …), R noises of a stage,
Q = 2 + R, N noises of the chain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from trainables.diffusion.gaussian import ReverseStep

STAGE_REACH = 6.0
"""How far a stage reaches: Σ_t |W| · of_clean / of_noisy over its steps. A farther reach takes fewer products, and
loses more digits where powers of the weight cancel."""

NEGLIGIBLE = 1e-8
"""What is left out, beside what is kept: less than float32 tells apart."""

ROWS_AT_ONCE = 256
"""Rows sampled at a time: their noises for all stages are held together."""


class AffineStage(NamedTuple):
    """Steps that follow each other: x ← Σ_k (mix_k · [x ; c ; z₁ … z_R] + offset_k) · (Wᵀ)ᵏ, z standard normal."""

    mix_KQ: Tensor
    offset_KD: Tensor

    @property
    def noises(self) -> int:
        """R."""
        return self.mix_KQ.shape[1] - 2


class AffineChain(NamedTuple):
    """The whole reverse chain of a denoiser x̂_0 = x · Wᵀ + c + p_t, as stages of powers of `weight_DD`, W / |W|."""

    weight_DD: Tensor
    stages: tuple[AffineStage, ...]

    @property
    def noises(self) -> int:
        """Standard normal rows that a row of x_0 takes, x_T among them."""
        return 1 + sum(stage.noises for stage in self.stages)

    def sample(self, context_BD: Tensor) -> Tensor:
        """Draw x_0 [B, D] given each row's context c; the noise comes from torch's global generator, row by row."""
        rows, columns = context_BD.split(ROWS_AT_ONCE), context_BD.shape[1]
        drawn = [self.run(part, part.new_empty(len(part), self.noises, columns).normal_()) for part in rows]
        return torch.cat(drawn)

    def run(self, context_BD: Tensor, noise_BND: Tensor) -> Tensor:
        """Return the x_0 [B, D] that these noises lead to, N = `noises` a row."""
        x_BD, first = noise_BND[:, 0], 1
        for stage in self.stages:
            own_BRD = noise_BND[:, first : first + stage.noises]
            first += stage.noises
            source_BQD = torch.cat([x_BD.unsqueeze(1), context_BD.unsqueeze(1), own_BRD], dim=1)
            *lower, x_BD = (stage.mix_KQ @ source_BQD + stage.offset_KD).unbind(1)
            for term_BD in reversed(lower):
                x_BD = torch.addmm(term_BD, x_BD, self.weight_DD.T)
        return x_BD


def affine_chain(weight_DD: Tensor, time_SD: Tensor, steps: Sequence[ReverseStep]) -> AffineChain:
    """Return the reverse chain of x̂_0 = x · Wᵀ + c + p_t from a standard normal x_T.

    A step is x ← A_t(W) · x + of_clean · (c + p_t) + noise · z with A_t(W) = of_noisy + of_clean · W. So steps that
    follow each other multiply x, c, p_t and z with polynomials of W. The k-th coefficients are at most reachᵏ / k! of
    the first, so a dozen powers are enough for hundreds of steps; and normal vectors that are multiplied with the same
    powers have the distribution of at most K of them. The distribution of x_0 is that of the steps, up to rounding.

    Args:
        weight_DD: W.
        time_SD: p_t of every step, in the steps' order.
        steps: the reverse steps, first to last.

    Raises:
        FloatingPointError: the weight is not finite.
    """
    if not torch.isfinite(weight_DD).all():
        raise FloatingPointError("sampling: the denoiser's weight is not finite; lower learning_rate")
    norm, stages, first = _norm(weight_DD), [], 0
    for group, reach in _grouped(steps, norm):
        clean_KS, noise_KS, start_K = _coefficients(group, norm, _powers(reach, len(group)))
        mix_KQ = torch.cat([start_K[:, None], clean_KS.sum(1, keepdim=True), _factor(noise_KS)], dim=1)
        offset_KD = clean_KS.to(time_SD) @ time_SD[first : first + len(group)]
        stages.append(AffineStage(mix_KQ.to(weight_DD), offset_KD))
        first += len(group)
    return AffineChain(weight_DD / norm, tuple(stages))


def _norm(weight_DD: Tensor, iterations: int = 20) -> float:
    """Return the weight's largest singular value, a few percent low where others are near it."""
    direction_D = weight_DD[weight_DD.square().sum(1).argmax()]
    norm = 0.0
    for _ in range(iterations):
        image_D = weight_DD @ torch.nn.functional.normalize(direction_D, dim=0)
        norm, direction_D = float(image_D.norm()), weight_DD.T @ image_D
    return max(norm, 1e-30)


def _grouped(steps: Sequence[ReverseStep], norm: float) -> list[tuple[list[ReverseStep], float]]:
    """Return stages of steps, and how far each reaches; a step that reaches too far is a stage of its own."""
    groups: list[tuple[list[ReverseStep], float]] = []
    for step in steps:
        reach = norm * abs(step.of_clean / step.of_noisy) if step.of_noisy else float("inf")
        if groups and groups[-1][1] + reach <= STAGE_REACH:
            groups[-1] = ([*groups[-1][0], step], groups[-1][1] + reach)
        else:
            groups.append(([step], reach))
    return groups


def _powers(reach: float, steps: int) -> int:
    """Return how many powers of the weight a stage needs, the zeroth among them."""
    powers, largest_left_out = 1, reach
    while powers <= steps and largest_left_out > NEGLIGIBLE:
        powers += 1
        largest_left_out *= reach / powers
    return powers


def _coefficients(group: Sequence[ReverseStep], norm: float, powers: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return what a stage multiplies c + p_t [K, S], z_t [K, S] and x [K] with, by powers of W / |W|, float64."""
    clean, noise = [], []
    later_K = torch.zeros(powers, dtype=torch.float64)
    later_K[0] = 1
    for step in reversed(group):
        clean.append(step.of_clean * later_K)
        noise.append(step.noise * later_K)
        raised_K = step.of_noisy * later_K
        raised_K[1:] += norm * step.of_clean * later_K[:-1]
        later_K = raised_K
    return torch.stack(clean[::-1], dim=1), torch.stack(noise, dim=1), later_K


def _factor(noise_KS: Tensor) -> Tensor:
    """Return a factor [K, R] of noise · noiseᵀ with no more columns than it takes."""
    axes_KR, scale_R, _ = torch.linalg.svd(noise_KS, full_matrices=False)
    counts_R = scale_R > NEGLIGIBLE * max(float(scale_R[0]), 1e-30)
    factor_KR: Tensor = axes_KR[:, counts_R] * scale_R[counts_R]
    return factor_KR
