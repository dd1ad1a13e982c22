"""DiffRec (Wang et al. 2023) as PreferDiff's Table 1 compares with it.

Legend: B rows of a batch, L positions, I items, D size of the hidden layer, T diffusion steps, F time features.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.base import DropoutRate, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt, SequenceBatch
from trainables.diffusion.gaussian import GaussianDiffusion
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.appended import with_item_appended
from trainables.next_item.denoiser import cosine_features, sinusoidal_features

RECENT = 10
"""Losses of a time that are remembered."""

TIME_FEATURES = 10

RELEASED_FIRST_VARIANCE = 1e-5
"""β_1 of the authors' program, whatever its schedule."""


def linear_noise_variances(steps: int, scale: float, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return β_1 … β_T for which 1 − ᾱ_t rises evenly from scale · first to scale · last, float64 [T].

    The bounds are the defaults of the authors' program; it takes others on each of the datasets that it comes with.

    Source: Wang et al. 2023, eq. 4.

    Raises:
        ValueError: a single step, or noise that would reach the whole variance.
    """
    if steps < 2 or scale * last >= 1:
        raise ValueError(f"DiffRec: {steps} steps of scale {scale}; use at least 2 steps, and a scale below {1 / last}")
    kept_T = 1 - scale * torch.linspace(first, last, steps, dtype=torch.float64)
    return 1 - kept_T / torch.cat([kept_T.new_ones(1), kept_T[:-1]])


class DiffRec(AdamWTrained):
    """A diffusion over a user's row of interactions [I], one for each item taken, restored by a small network.

    A training row holds a user's history and target, a row to rank the history alone: test users do not occur in
    training where users are split. The network is [x_t ; time] → tanh → x̂_0 with one hidden layer.

    The network is linear in x_t and in its output, so that no row is ever written down: clean rows are sums over
    their items, the squared error over all items follows from the output layer's Gram matrix, and the reverse process
    runs in the hidden layer, all equal to the plain form up to rounding. Noise is drawn where it arrives in the hidden
    layer, from the same normal distribution. Dropout falls on the interactions; of the noise, it is the variance alone
    that is scaled.

    Args:
        items: number of items.
        history_length: positions of a history.
        size: of the hidden layer; the paper searches 200 … 1,000, and PreferDiff fixes 64 for what is no diffusion.
        dropout: of the interactions.
        diffusion_steps: T.
        noise_scale: s.
        sampling_steps: T′, how many steps of noise a history gets before it is restored; all T steps lead back,
            without noise.
        first_weight: T-DiffRec's weight of a row's oldest item; they rise evenly to 1 at the newest. 1 is DiffRec.
        weighting: of the steps' losses: `elbo` as the bound has it, `none` all alike.
        taken: `excluded` ranks the history's items last, as the authors evaluate; `ranked` leaves them where they are.
        variant: `released` follows the authors' program (github.com/YiyanXu/DiffRec, folder DiffRec), which PreferDiff
            took over, in four things. β_1 is 1e-5, whatever T and s; a step's weight is the whole fall of the
            signal-to-noise ratio, not half of it; the time layers see t − 1 with the program's wavelengths
            (`cosine_features`); and they start as the other layers do, near 0.

    The other parameters are as in `AdamWTrained`.

    Both variants draw times by their losses, weight the first step by 1 and leave rows as they are. So does the
    program, which can divide rows by their norm, but by default does not. In it dropout falls on rows with their noise,
    the hidden layer has 1,000 dimensions, T-DiffRec gives a row's only item the oldest's weight, here the newest's, and
    training, in batches of 400, stops after 20 epochs without a better Recall@20.

    Source: Wang et al. 2023, §3 (eq. 3–13), §3.4 (T-DiffRec); PreferDiff D.3 and Table 11; the authors' program.

    Raises:
        ValueError: see `linear_noise_variances`; more sampling steps than steps.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        *,
        size: PositiveInt = 64,
        dropout: DropoutRate = 0.5,
        diffusion_steps: PositiveInt = 5,
        noise_scale: PositiveFloat = 0.01,
        sampling_steps: NonNegativeInt = 0,
        first_weight: NonNegativeFloat = 1.0,
        weighting: Literal["elbo", "none"] = "elbo",
        taken: Literal["excluded", "ranked"] = "excluded",
        variant: Literal["paper", "released"] = "paper",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        if sampling_steps > diffusion_steps:
            raise ValueError(f"DiffRec: {sampling_steps} sampling_steps of {diffusion_steps}; use at most as many")
        self.items = items
        self.dropout = dropout
        self.sampling_steps = sampling_steps
        self.first_weight = first_weight
        self.taken = taken
        deviation = (2 / (items + TIME_FEATURES + size)) ** 0.5
        self.first_ID = nn.Parameter(torch.randn(items, size) * deviation)
        self.time_layers = nn.Sequential(nn.Linear(TIME_FEATURES, TIME_FEATURES), nn.Linear(TIME_FEATURES, size))
        self.last_ID = nn.Parameter(torch.randn(items, size) * (2 / (items + size)) ** 0.5)
        self.bias_I = nn.Parameter(torch.randn(items) * 0.001)
        released = variant == "released"
        beta_T = linear_noise_variances(diffusion_steps, noise_scale)
        if released:
            beta_T[0] = RELEASED_FIRST_VARIANCE
            self._start_time_layers(deviation)
        self.diffusion = GaussianDiffusion(beta_T)
        self.weight_T: Tensor
        elbo_T = elbo_weights(self.diffusion, of_fall=1.0 if released else 0.5)
        weight_T = elbo_T if weighting == "elbo" else torch.ones(diffusion_steps)
        self.register_buffer("weight_T", weight_T, persistent=False)
        self.times = ImportantTimes(diffusion_steps)
        self.sinusoidal: Tensor
        features = cosine_features if released else sinusoidal_features
        self.register_buffer("sinusoidal", features(diffusion_steps + 1, TIME_FEATURES), persistent=False)

    def _start_time_layers(self, deviation: float) -> None:
        """Draw the time layers as the program does: it has the second as a part of the layer that meets the items."""
        deviations = ((1 / TIME_FEATURES) ** 0.5, 0.001, deviation, 0.001)
        for parameter, own in zip(self.time_layers.parameters(), deviations, strict=True):
            nn.init.normal_(parameter, std=own)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the weighted squared error of x̂_0, averaged over rows and items, in expectation over t (eq. 9–12)."""
        item_BL, value_BL = self._rows(with_item_appended(batch, batch.target_B))
        time_B, rate_B = self.times.draw(len(batch))
        thinned_BL = functional.dropout(value_BL, self.dropout, self.training)
        clean_BD = self._summed(item_BL, thinned_BL * self.diffusion.signal[time_B].unsqueeze(1))
        deviation_B1 = self.diffusion.noise[time_B].unsqueeze(1)
        if self.training:
            deviation_B1 = deviation_B1 * (1 - self.dropout) ** -0.5
        noise_BD = self._noise(len(batch)) * deviation_B1
        hidden_BD = torch.tanh(clean_BD + noise_BD + self.time_layers(self.sinusoidal[time_B]))
        loss_B = self.weight_T[time_B - 1] * self._squared_error(hidden_BD, item_BL, value_BL) / self.items
        if self.training:
            self.times.record(time_B, loss_B)
        return (loss_B / rate_B).mean()

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return the restored rows [B, I] (eq. 13 and §3.3: noise for T′ steps, then T steps back by their means)."""
        item_BL, value_BL = self._rows(batch)
        hidden_BD = self._reversed(self._summed(item_BL, value_BL))
        scores_BI = torch.addmm(self.bias_I, hidden_BD, self.last_ID.T)
        return batch.ranked_last(scores_BI) if self.taken == "excluded" else scores_BI

    def _rows(self, sequences: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Return the rows' items, int64 [B, L], and their entries [B, L]: 0 where padded, and for all but the last
        occurrence of an item.
        """
        position_L = torch.arange(sequences.history_BL.shape[1])
        length_B1 = sequences.length_B.unsqueeze(1)
        real_BL = position_L < length_B1
        item_BL = (sequences.history_BL.long() - 1).clamp(min=0)
        same_BLL = (item_BL.unsqueeze(2) == item_BL.unsqueeze(1)) & real_BL.unsqueeze(1)
        repeated_BL = (same_BLL & (position_L > position_L.unsqueeze(1))).any(dim=2)
        age_BL = (length_B1 - 1 - position_L) / (length_B1 - 1).clamp(min=1)
        value_BL = 1 - (1 - self.first_weight) * age_BL
        return item_BL, value_BL * (real_BL & ~repeated_BL)

    def _summed(self, item_BL: Tensor, value_BL: Tensor) -> Tensor:
        """Return what clean rows bring to the hidden layer [B, D]."""
        summed_BD: Tensor = functional.embedding_bag(item_BL, self.first_ID, mode="sum", per_sample_weights=value_BL)
        return summed_BD

    def _noise(self, rows: int) -> Tensor:
        """Draw what a row of standard normal noise brings to the hidden layer [B, D]: normal with covariance WᵀW."""
        size = self.first_ID.shape[1]
        if size > rows:
            noise_BD: Tensor = torch.randn(rows, self.items) @ self.first_ID
            return noise_BD
        covariance_DD = (self.first_ID.T @ self.first_ID).double()
        # With fewer items than dimensions it is singular.
        ridge_D = covariance_DD.diagonal().detach().mean().expand(size) * 1e-6
        factor_DD: Tensor = torch.linalg.cholesky_ex(covariance_DD + torch.diag(ridge_D))[0]
        return torch.randn(rows, size) @ factor_DD.T.to(self.first_ID.dtype)

    def _squared_error(self, hidden_BD: Tensor, item_BL: Tensor, value_BL: Tensor) -> Tensor:
        """Return the squared error of x̂_0 = hidden · Wᵀ + b, summed over all items [B]."""
        if hidden_BD.shape[1] > len(hidden_BD):
            of_empty_B = torch.addmm(self.bias_I, hidden_BD, self.last_ID.T).square().sum(1)
        else:
            square_BD = hidden_BD @ (self.last_ID.T @ self.last_ID)
            twice_D = 2 * (self.bias_I @ self.last_ID)
            of_empty_B = ((square_BD + twice_D) * hidden_BD).sum(1) + self.bias_I.square().sum()
        weight_BLD = functional.embedding(item_BL, self.last_ID)
        restored_BL = (weight_BLD @ hidden_BD.unsqueeze(2)).squeeze(2) + self.bias_I[item_BL]
        return of_empty_B + (value_BL * (value_BL - 2 * restored_BL)).sum(1)

    def _reversed(self, x_BD: Tensor) -> Tensor:
        """Return the hidden layer of the last reverse step [B, D], from what clean rows bring to the first one's.

        A step sets x to of_clean · x̂_0 + of_noisy · x; in the hidden layer, x̂_0 = tanh(…) · Wᵀ + b arrives as
        tanh(…) · (Wᵀ V) + bᵀ V. The last step returns x̂_0 itself.
        """
        if self.sampling_steps:
            signal, noise = self.diffusion.signal[self.sampling_steps], self.diffusion.noise[self.sampling_steps]
            x_BD = signal * x_BD + noise * self._noise(len(x_BD))
        time_TD = self.time_layers(self.sinusoidal)
        onward_DD, onward_D = self.last_ID.T @ self.first_ID, self.bias_I @ self.first_ID
        hidden_BD = x_BD
        for step in self.diffusion.ddpm_steps():
            hidden_BD = torch.tanh(x_BD + time_TD[step.time])
            x_BD = step.of_clean * torch.addmm(onward_D, hidden_BD, onward_DD) + step.of_noisy * x_BD
        return hidden_BD


def elbo_weights(diffusion: GaussianDiffusion, of_fall: float = 0.5) -> Tensor:
    """Return the weights of the steps' squared errors in the bound, float32 [T].

    1 for t = 1, else this share of the fall of the signal-to-noise ratio, ᾱ_{t−1}/(1−ᾱ_{t−1}) − ᾱ_t/(1−ᾱ_t).

    Source: Wang et al. 2023, eq. 9 and 11, where the share is ½.
    """
    ratio = [kept / (1 - kept) for kept in diffusion.alpha_bar[1:]]
    return torch.tensor([1.0, *(of_fall * (before - after) for before, after in pairwise(ratio))])


class ImportantTimes(nn.Module):
    """Draws times of training in proportion to how large their losses have lately been.

    Uniform until every time has ten losses on record; then the rate of a time is the root of its last ten losses' mean
    square, mixed with a thousandth of uniform. The losses are part of the state, so that training can go on from it.

    Source: Nichol, Dhariwal 2021, §3.3; Wang et al. 2023, eq. 12.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.recent_TN: Tensor  # the last losses of each time, the latest at the end; −1 where there was none yet
        self.register_buffer("recent_TN", torch.full((steps, RECENT), -1.0, dtype=torch.float64))

    def draw(self, rows: int) -> tuple[Tensor, Tensor]:
        """Return times 1 … T, int64 [B], and how often each occurs relative to a uniform draw [B]."""
        steps = len(self.recent_TN)
        if bool((self.recent_TN < 0).any()):
            return torch.randint(1, steps + 1, (rows,)), torch.ones(rows)
        size_T = self.recent_TN.square().mean(dim=1).sqrt()
        rate_T = 0.999 * size_T / size_T.sum().clamp(min=1e-300) + 0.001 / steps
        index_B = torch.multinomial(rate_T, rows, replacement=True)
        return index_B + 1, (rate_T[index_B] * steps).float()

    @torch.no_grad()
    def record(self, time_B: Tensor, loss_B: Tensor) -> None:
        """Remember the losses of these times."""
        for time, recent_N in enumerate(self.recent_TN, start=1):
            recent_N.copy_(torch.cat([recent_N, loss_B[time_B == time].double()])[-RECENT:])
