"""From noise back to data, one reverse step after the other.

Legend: B rows of a batch, D embedding size.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trainables.diffusion.gaussian import ReverseStep

Denoise = Callable[[Tensor, int], Tensor]
"""`denoise(x_BD, time) -> x̂_0 [B, D]`."""


def sample_by_steps(denoise: Denoise, start_BD: Tensor, steps: Sequence[ReverseStep]) -> Tensor:
    """Run the reverse steps from x_T = `start_BD` and return x_0 [B, D]; noise comes from torch's global generator.

    DDPM and DDIM differ in their steps alone (`GaussianDiffusion.ddpm_steps`, `.ddim_steps`).
    """
    x_BD = start_BD
    for step in steps:
        x_BD = denoise(x_BD, step.time) * step.of_clean + x_BD * step.of_noisy
        if step.noise > 0:
            x_BD = x_BD.add_(torch.randn_like(x_BD), alpha=step.noise)
    return x_BD
