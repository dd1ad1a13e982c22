"""The denoising network of DreamRec and PreferDiff.

Legend: B rows of a batch, N negatives, D embedding size, T diffusion steps.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainables.next_item.matrix_weight import MatrixWeight, Precision, Region, times_transposed

Content = tuple[tuple[int, int | float], ...]
"""Of each parameter its version, -1 where tensors have none, and a hash of its bits."""


def sinusoidal_features(times: int, size: int) -> Tensor:
    """Return sine and cosine features of the times 0 … times − 1, float32 [times, D].

    Source: Vaswani et al. 2017, with the wavelengths of Ho et al.'s program: 10000^(i / (D/2 − 1)).

    Raises:
        ValueError: the size is odd or below 4.
    """
    if size % 2 or size < 4:
        raise ValueError(f"time embedding: size {size} is not an even number from 4 on; change size")
    frequency_F = torch.exp(torch.arange(size // 2) * (-math.log(10000) / (size // 2 - 1)))
    angle_TF = torch.arange(times)[:, None] * frequency_F
    return torch.cat([angle_TF.sin(), angle_TF.cos()], dim=1)


def cosine_features(times: int, size: int, stretch: float = 1.0) -> Tensor:
    """Return cosine and sine features of (t − 1) · stretch for the times t = 0 … times − 1, float32 [times, D].

    Nothing is noised at time 0, whose row is there so that row t is time t's. An odd size ends in a column of zeros.

    Source: the programs of Wang et al. 2023 (DiffRec) and Li et al. 2023 (DiffuRec), with wavelengths 10000^(i / F).
    """
    frequency_F = 10000 ** (-torch.arange(size // 2) / (size // 2))
    angle_TF = ((torch.arange(times) - 1) * stretch)[:, None] * frequency_F
    return functional.pad(torch.cat([angle_TF.cos(), angle_TF.sin()], dim=1), (0, size % 2))


class Denoiser(nn.Module):
    """One linear layer from [x_t ; history ; time] to x̂_0; time goes through Linear D→2D, GELU, Linear 2D→D.

    The layer is applied in parts, so that the parts of history and time are computed once for all x_t that share
    them. Source: PreferDiff §2 (a simple network) in the form of its released program.
    """

    def __init__(self, size: int, steps: int, precision: Precision = "float32") -> None:
        super().__init__()
        self.size = size
        self.layer = nn.Linear(3 * size, size)
        self.time_layers = nn.Sequential(nn.Linear(size, 2 * size), nn.GELU(), nn.Linear(2 * size, size))
        self.matrices = {
            "layer": MatrixWeight(self.layer.weight, precision),
            "first": MatrixWeight(self._time_linear(0).weight, precision),
            "second": MatrixWeight(self._time_linear(2).weight, precision),
        }
        self.sinusoidal: Tensor
        self.register_buffer("sinusoidal", sinusoidal_features(steps + 1, size), persistent=False)

    def forward(self, x_BD: Tensor, history_BD: Tensor, time_B: Tensor) -> Tensor:
        """Return x̂_0 [B, D]: the plain form, which the parts below add up to."""
        time_BD = self.time_layers(self.sinusoidal[time_B])
        clean_BD: Tensor = self.layer(torch.cat([x_BD, history_BD, time_BD], dim=-1))
        return clean_BD

    @property
    def x_weight(self) -> Tensor:
        """The part of the layer's weight that x_t meets [D, D]."""
        return self.layer.weight[:, : self.size]

    def x_part(self, x_BD: Tensor) -> Tensor:
        """Return x_t's part of x̂_0; any leading shape."""
        return self._part(x_BD, 0)

    def history_part(self, history_BD: Tensor) -> Tensor:
        """Return the history's part of x̂_0, with the bias [B, D]."""
        return self._part(history_BD, 1) + self.layer.bias

    def time_part(self, time_B: Tensor) -> Tensor:
        """Return the time's part of x̂_0 [B, D]."""
        hidden_B2D = times_transposed(self.sinusoidal[time_B], self.matrices["first"]) + self._time_linear(0).bias
        time_BD = times_transposed(functional.gelu(hidden_B2D), self.matrices["second"]) + self._time_linear(2).bias
        return self._part(time_BD, 2)

    def _part(self, input_BD: Tensor, part: int) -> Tensor:
        size = self.size
        return times_transposed(input_BD, self.matrices["layer"], Region((0, size), (part * size, (part + 1) * size)))

    def _time_linear(self, position: int) -> nn.Linear:
        layer = self.time_layers[position]
        assert isinstance(layer, nn.Linear)
        return layer

    def content(self) -> Content:
        """Identify the parameters' values: tensors' version counters alone miss what a fused optimizer writes."""
        return tuple(
            (-1 if parameter.is_inference() else parameter._version, torch.hash_tensor(parameter).item())
            for parameter in self.parameters()
        )
