"""CSDM's "U-Net".

Legend: M items, D embedding size, O outer hidden size, E size of the time embedding, T diffusion steps.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainables.layers import Dropout


class UNet(nn.Module):
    """Dropout on z_t, the time embedding beside it, two layers in and two layers out with tanh.

    The time embedding is the position encoding of t (Vaswani et al. 2017) through one linear layer.
    """

    def __init__(self, size: int, hidden: tuple[int, int], time_size: int, steps: int, dropout: float) -> None:
        super().__init__()
        outer, inner = hidden
        self.size = size
        self.dropout = Dropout(dropout)
        self.time = nn.Linear(time_size, time_size)
        self.first = nn.Linear(size + time_size, outer)
        self.second = nn.Linear(outer, inner)
        self.third = nn.Linear(inner, outer)
        self.last = nn.Linear(outer, size)
        self.register_buffer("positions_TE", _positions(steps + 1, time_size), persistent=False)

    def start_as_released(self) -> None:
        """Draw weights from N(0, 2 / (inputs + outputs)) (Xavier) and biases from N(0, 0.001²)."""
        for layer in (self.first, self.second, self.third, self.last, self.time):
            nn.init.xavier_normal_(layer.weight)
            nn.init.normal_(layer.bias, std=0.001)

    def time_parts(self) -> Tensor:
        """Return what the first layer adds at each step 0 … T, its bias included [T + 1, O]."""
        time_TE = self.time(self.get_buffer("positions_TE"))
        return F.linear(time_TE, self.first.weight[:, self.size :], self.first.bias)

    def forward(self, z_MD: Tensor, time_part: Tensor, scale_MD: Tensor | None = None) -> Tensor:
        """Return the predicted noise [M, D].

        Args:
            z_MD: the latent states.
            time_part: [M, O], or [O] for rows at the same step.
            scale_MD: what the dropout multiplies z with, when it has been drawn before.
        """
        kept_MD = self.dropout(z_MD) if scale_MD is None else z_MD * scale_MD
        first_MO = torch.tanh(F.linear(kept_MD, self.first.weight[:, : self.size]) + time_part)
        noise_MD: Tensor = self.last(torch.tanh(self.third(torch.tanh(self.second(first_MO)))))
        return noise_MD


def _positions(steps: int, size: int) -> Tensor:
    half = size // 2
    frequency_E = torch.exp(-math.log(10_000) * torch.arange(half) / max(half, 1))
    angle_TE = torch.arange(steps).unsqueeze(1) * frequency_E
    return F.pad(torch.cat([angle_TE.cos(), angle_TE.sin()], dim=1), (0, size - 2 * half))
