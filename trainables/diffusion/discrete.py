"""Discrete diffusion of categories (D3PM, Austin et al., NeurIPS 2021): absorbing and uniform forward processes.

Legend: T steps, B rows of a batch, K values of a category, S states (K, and one more for the absorbing mask). Times run
from 1 to T as in the papers; 0 is the clean data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

Corruption = Literal["mask", "uniform"]
KeepingSchedule = Literal["linear", "cosine"]


def kept_linearly(steps: int) -> Tensor:
    """Return ᾱ_t = 1 − t/T, float64 [T + 1]: the rate β_t = 1/(T − t + 1), by which as many are lost in each step.

    Source: Austin et al. 2021, §3.1 (Sohl-Dickstein et al. 2015): for absorption, mutual information with the clean
    value falls linearly.
    """
    _check_steps(steps)
    return 1 - torch.arange(steps + 1, dtype=torch.float64) / steps


def kept_by_cosine(steps: int, offset: float = 0.008) -> Tensor:
    """Return ᾱ_t = f(t)/f(0) with f(t) = cos(π/2 · (t/T + s)/(1 + s)), float64 [T + 1]; s is `offset`.

    Source: Hoogeboom et al. 2021, appendix; Austin et al. 2021, §3.1, take it for the uniform process.
    """
    _check_steps(steps)
    time = torch.arange(steps + 1, dtype=torch.float64) / steps
    level = torch.cos(math.pi / 2 * (time + offset) / (1 + offset))
    return (level / level[0]).clamp(min=0)


SCHEDULES: dict[KeepingSchedule, Callable[[int], Tensor]] = {"linear": kept_linearly, "cosine": kept_by_cosine}


class DiscreteDiffusion(nn.Module):
    """q(x_t | x_0) = ᾱ_t · 1[x_t = x_0] + (1 − ᾱ_t) · π(x_t), one chain for each category (Austin et al., eq. 3).

    π is all on an extra state, the mask (`mask`, D3PM's absorbing process), or even over the K values (`uniform`). In
    both, one step keeps the state with probability α_t = ᾱ_t / ᾱ_{t−1} and otherwise draws it anew from π, so that the
    product of any number of steps has this same form. A drawn value may be the old one.

    Args:
        kept_T1: ᾱ_0 … ᾱ_T, falling from 1, for example `kept_linearly(100)`.
        corruption: where the chain goes.

    Raises:
        ValueError: ᾱ does not start at 1, rises, or leaves 0…1.
    """

    def __init__(self, kept_T1: Tensor, corruption: Corruption) -> None:
        super().__init__()
        falling = bool((kept_T1.diff() <= 0).all()) and float(kept_T1[-1]) >= 0
        if len(kept_T1) < 2 or float(kept_T1[0]) != 1 or not falling:
            raise ValueError("discrete diffusion: the kept shares must fall from 1 and stay at or above 0")
        self.steps = len(kept_T1) - 1
        self.corruption: Corruption = corruption
        self.kept_T1: Tensor
        self.register_buffer("kept_T1", kept_T1.double(), persistent=False)

    def states(self, values: int) -> int:
        """Return S, the number of states of a category of K values; the mask's id is K."""
        return values + (self.corruption == "mask")

    def transition(self, values: int, time: int, since: int) -> Tensor:
        """Return q(x_t = column | x_since = row), float64 [S, S], for `since` below `time`."""
        states = self.states(values)
        alpha = self.kept_T1[time] / self.kept_T1[since] if self.kept_T1[since] > 0 else self.kept_T1.new_zeros(())
        stay_SS = torch.eye(states, dtype=torch.float64, device=self.kept_T1.device)
        return alpha * stay_SS + (1 - alpha) * self._stationary(values)

    def marginal(self, clean_B: Tensor, time_B: Tensor, values: int) -> Tensor:
        """Return q(x_t | x_0), float64 [B, S], of clean ids int64 [B] at each row's time."""
        one_hot_BS = nn.functional.one_hot(clean_B, self.states(values)).double()
        kept_B1 = self.kept_T1[time_B].unsqueeze(1)
        return kept_B1 * one_hot_BS + (1 - kept_B1) * self._stationary(values)

    def lost(self, time_B: Tensor, columns: int) -> Tensor:
        """Draw which of this many independent chains of each row were redrawn from π by its time, bool [B, columns]."""
        chance_B1 = (1 - self.kept_T1[time_B]).float().unsqueeze(1)
        return torch.rand(len(time_B), columns, device=time_B.device) < chance_B1

    def corrupted(self, clean_B: Tensor, lost_B: Tensor, values: int) -> Tensor:
        """Return x_t [B], or [B, L], for ids of that shape: what is lost becomes the mask K, or an even draw."""
        if self.corruption == "mask":
            return clean_B.masked_fill(lost_B, values)
        return torch.where(lost_B, torch.randint_like(clean_B, values), clean_B)

    def posterior(self, noisy_B: Tensor, clean_B: Tensor, time_B: Tensor, before_B: Tensor, values: int) -> Tensor:
        """Return q(x_s | x_t, x_0), float64 [B, S], for s = `before_B` below t = `time_B` (Austin et al., eq. 3).

        By Bayes' rule q(x_t | x_s) · q(x_s | x_0) / q(x_t | x_0); rows that cannot occur are zero.
        """
        one_hot_BK = nn.functional.one_hot(clean_B, values).double()
        return self.posterior_of_prediction(noisy_B, one_hot_BK, time_B, before_B)

    def posterior_of_prediction(self, noisy_B: Tensor, clean_BK: Tensor, time_B: Tensor, before_B: Tensor) -> Tensor:
        """Return Σ_x0 q(x_s | x_t, x_0) · p(x_0 | x_t), float64 [B, S]: one step back (Austin et al., eq. 4).

        `clean_BK` are the predicted probabilities of the clean values. Those that could not have led to x_t are left
        out of the sum, as the posterior given them is none.
        """
        values = clean_BK.shape[1]
        share_S = self._stationary(values)
        kept_B, before_kept_B = self.kept_T1[time_B], self.kept_T1[before_B]
        alpha_B = torch.where(before_kept_B > 0, kept_B / before_kept_B.clamp(min=1e-300), torch.zeros_like(kept_B))
        noisy_BS = nn.functional.one_hot(noisy_B, len(share_S)).double()
        drawn_B = share_S[noisy_B]
        # q(x_t | x_0) for each x_0, and q(x_t | x_s) for each x_s: the state stayed, or was drawn
        reached_BK = kept_B[:, None] * noisy_BS[:, :values] + ((1 - kept_B) * drawn_B)[:, None]
        reaches_BS = alpha_B[:, None] * noisy_BS + ((1 - alpha_B) * drawn_B)[:, None]
        weight_BK = torch.where(reached_BK > 0, clean_BK.double() / reached_BK.clamp(min=1e-300), 0.0)
        from_clean_BS = nn.functional.pad(weight_BK, (0, len(share_S) - values)) * before_kept_B[:, None]
        drawn_BS = weight_BK.sum(dim=1, keepdim=True) * (1 - before_kept_B)[:, None] * share_S
        return reaches_BS * (from_clean_BS + drawn_BS)

    def restored(self, time: int) -> float:
        """Return the probability that a value lost by `time` was not lost by `time` − 1: (ᾱ_{t−1} − ᾱ_t)/(1 − ᾱ_t)."""
        now, before = float(self.kept_T1[time]), float(self.kept_T1[time - 1])
        return (before - now) / (1 - now) if now < 1 else 1.0

    def _stationary(self, values: int) -> Tensor:
        """Return π, float64 [S]."""
        if self.corruption == "uniform":
            return self.kept_T1.new_full((values,), 1 / values)
        return nn.functional.one_hot(torch.tensor(values, device=self.kept_T1.device), values + 1).double()


def _check_steps(steps: int) -> None:
    if steps < 1:
        raise ValueError(f"discrete diffusion: {steps} steps; give at least one")
