"""A diffusion from an embedding z_0 to the side information h that goes with it (CSDM eq. 5–10).

Legend: M rows, D embedding size, T steps. Steps t run from 1 to T; α_0 = 1 and the weight of h at 0 is 0.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from math import sqrt

import torch
from torch import Tensor

NoisePredictor = Callable[[Tensor, int], Tensor]
"""`predict(z_MD, t)`: the noise ε_ω^{(t)}(z_t) [M, D]."""


class SideInformationBridge:
    """The forward marginals, the posterior and the reverse steps of the bridge.

    Args:
        alpha: α_t, float64 [T + 1], falling from 1.
        side_weight: what h is multiplied with at step t, float64 [T + 1], rising from 0: √c_t in the paper, c_t in
            the release.
    """

    def __init__(self, alpha: Tensor, side_weight: Tensor) -> None:
        if alpha.shape != side_weight.shape or alpha.dim() != 1 or len(alpha) < 2:
            raise ValueError(f"alpha {list(alpha.shape)} and side_weight {list(side_weight.shape)}: give two [T + 1]")
        self.steps = len(alpha) - 1
        self._alpha: list[float] = alpha.tolist()
        self._side: list[float] = side_weight.tolist()
        self._scales_T3 = torch.stack([alpha.sqrt(), side_weight, (1 - alpha).sqrt()], dim=1).float()

    def scales(self, t_M: Tensor, like: Tensor) -> Tensor:
        """Return the weights √α_t, √c_t and √(1 − α_t) of z_0, h and the noise in z_t [M, 3] (eq. 7)."""
        return self._scales_T3.to(like).index_select(0, t_M)

    def noised(self, z0_MD: Tensor, h_MD: Tensor, t_M: Tensor, noise_MD: Tensor) -> Tensor:
        """Return z_t = √α_t z_0 + √c_t h + √(1 − α_t) ε for a step of each row (eq. 7; eq. 13 when h has dropout)."""
        scale_M3 = self.scales(t_M, z0_MD)
        return scale_M3[:, :1] * z0_MD + scale_M3[:, 1:2] * h_MD + scale_M3[:, 2:] * noise_MD

    def denoised(self, z_MD: Tensor, h_MD: Tensor, t: int, noise_MD: Tensor) -> Tensor:
        """Return g^{(t)}(z_t), the z_0 that this noise implies (eq. 8)."""
        alpha = self._alpha[t]
        return (z_MD - self._side[t] * h_MD - sqrt(1 - alpha) * noise_MD) / sqrt(alpha)

    def posterior(self, t: int, to: int, sigma: float = 0.0) -> tuple[float, float, float]:
        """Return κ, λ, ν: the mean of z_to given z_t, z_0 and h is κ z_t + λ z_0 + ν h (the lines below eq. 7).

        Raises:
            ValueError: `to` is not below t, or σ² exceeds the variance 1 − α_to.
        """
        if not 0 <= to < t <= self.steps:
            raise ValueError(f"a step from {t} to {to}: go down, inside 0 … {self.steps}")
        remaining = 1 - self._alpha[to] - sigma**2
        if remaining < 0:
            raise ValueError(f"sigma {sigma}: at step {to} it may be at most {sqrt(1 - self._alpha[to]):.3g}")
        kappa = sqrt(remaining / (1 - self._alpha[t]))
        lambda_ = sqrt(self._alpha[to]) - sqrt(self._alpha[t]) * kappa
        nu = self._side[to] - self._side[t] * kappa
        return kappa, lambda_, nu

    def reverse_weights(self, t: int, to: int, sigma: float = 0.0) -> tuple[float, float, float]:
        """Return the weights of z_t, h and the predicted noise in the mean of z_to (eq. 10 with eq. 8 put in)."""
        kappa, lambda_, nu = self.posterior(t, to, sigma) if to else (0.0, 1.0, 0.0)
        share = lambda_ / sqrt(self._alpha[t])
        return kappa + share, nu - share * self._side[t], -share * sqrt(1 - self._alpha[t])

    def reverse_step(self, z_MD: Tensor, h_MD: Tensor, t: int, to: int, noise_MD: Tensor, sigma: float = 0.0) -> Tensor:
        """Return z_to from z_t and its predicted noise (eq. 10); `to = 0` gives g^{(t)}(z_t) itself."""
        of_z, of_h, of_noise = self.reverse_weights(t, to, sigma)
        z_to_MD = of_z * z_MD
        z_to_MD = torch.add(z_to_MD, h_MD, alpha=of_h)
        z_to_MD = torch.add(z_to_MD, noise_MD, alpha=of_noise)
        return z_to_MD + sigma * torch.randn_like(z_MD) if to and sigma else z_to_MD

    def sub_sequence(self, stride: int) -> tuple[int, ...]:
        """Return the steps that the reverse process visits, T−s+1 first and 1 last (91, 81, …, 1 for T=100, s=10)."""
        return tuple(range(1, self.steps + 1, stride))[::-1]

    def reverse(self, h_MD: Tensor, predict: NoisePredictor, steps: tuple[int, ...], sigma: float = 0.0) -> Tensor:
        """Return z̃_0, generated from z = h without noise through these falling steps (eq. 10).

        Without steps it is h. The first step has c < 1, so that a part of h is left over when √c h is taken away: with
        c = 1 it would cancel.
        """
        z_MD = h_MD
        for t, to in pairwise((*steps, 0)):
            z_MD = self.reverse_step(z_MD, h_MD, t, to, predict(z_MD, t), sigma)
        return z_MD
