"""The variance-preserving Gaussian diffusion: its forward process, and one step back from it.

Legend: T steps, B rows of a batch, D embedding size. Times run from 1 to T as in the papers; 0 is the clean data.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class ReverseStep(NamedTuple):
    """One step back in time: x_s = of_clean · x̂_0 + of_noisy · x_t + noise · z, with z standard normal."""

    time: int
    of_clean: float
    of_noisy: float
    noise: float


class GaussianDiffusion(nn.Module):
    """q(x_t | x_0) = N(√ᾱ_t · x_0, (1 − ᾱ_t) · I), with ᾱ_t the product of 1 − β_1 … 1 − β_t and ᾱ_0 = 1.

    Source: Ho, Jain, Abbeel 2020, eq. 4 and 7; Song, Meng, Ermon 2021, eq. 12; PreferDiff §2 and eq. 18.
    """

    def __init__(self, beta_T: Tensor) -> None:
        super().__init__()
        self.steps = len(beta_T)
        alpha_bar = torch.cat([beta_T.new_ones(1), torch.cumprod(1 - beta_T.double(), dim=0)])
        self.alpha_bar: list[float] = alpha_bar.tolist()
        self.signal: Tensor
        self.noise: Tensor
        self.register_buffer("signal", alpha_bar.sqrt().float(), persistent=False)
        self.register_buffer("noise", (1 - alpha_bar).sqrt().float(), persistent=False)

    def noised(self, clean_BD: Tensor, time_B: Tensor, noise_BD: Tensor) -> Tensor:
        """Return x_t [B, …, D] of clean data at each row's time, with this standard normal noise."""
        per_row = (-1, *[1] * (clean_BD.dim() - 1))
        return self.signal[time_B].view(per_row) * clean_BD + self.noise[time_B].view(per_row) * noise_BD

    def ddpm_steps(self) -> list[ReverseStep]:
        """Return the ancestral steps T, …, 1: mean and variance of q(x_{t−1} | x_t, x_0).

        Source: Ho, Jain, Abbeel 2020, eq. 6–7.
        """
        return [self._ddpm_step(time) for time in range(self.steps, 0, -1)]

    def _ddpm_step(self, time: int) -> ReverseStep:
        now, before = self.alpha_bar[time], self.alpha_bar[time - 1]
        alpha = now / before
        of_clean = before**0.5 * (1 - alpha) / (1 - now)
        of_noisy = alpha**0.5 * (1 - before) / (1 - now)
        variance = (1 - alpha) * (1 - before) / (1 - now)
        return ReverseStep(time, of_clean, of_noisy, variance**0.5)

    def ddim_steps(self, count: int) -> list[ReverseStep]:
        """Return deterministic steps at the times ⌊s·T/count⌋ for s = count, …, 1, and a last one at time 1.

        PreferDiff's Algorithm 2 ends at s = 1; its released program adds the last step, so that 20 steps of 2,000
        visit 21 times. The step from time t to s keeps the direction: x_s = √ᾱ_s · x̂_0 + √(1 − ᾱ_s) · ε̂.

        Source: PreferDiff eq. 16–18; Song, Meng, Ermon 2021, eq. 12 with σ = 0.

        Raises:
            ValueError: there are more steps than times.
        """
        if not 1 <= count <= self.steps:
            raise ValueError(f"DDIM: {count} steps of a diffusion with {self.steps}; use 1 … {self.steps}")
        times = sorted({1, *(step * self.steps // count for step in range(1, count + 1))})
        return [self._ddim_step(time, before) for time, before in zip(times[::-1], [*times[-2::-1], 0], strict=True)]

    def _ddim_step(self, time: int, before: int) -> ReverseStep:
        now, then = self.alpha_bar[time], self.alpha_bar[before]
        of_noisy = ((1 - then) / (1 - now)) ** 0.5
        return ReverseStep(time, then**0.5 - now**0.5 * of_noisy, of_noisy, 0.0)
