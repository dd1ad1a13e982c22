"""From noise back to data: the step-by-step sampler, and its closed form for an affine denoiser.

Legend: B rows of a batch, D embedding size, S reverse steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

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


class AffineChain(NamedTuple):
    """The whole reverse chain of an affine denoiser: x_0 = c · responseᵀ + offset + z · factorᵀ, z standard normal."""

    response_DD: Tensor
    offset_D: Tensor
    factor_DD: Tensor

    def sample(self, context_BD: Tensor) -> Tensor:
        """Draw x_0 [B, D] given each row's context; one standard normal row each from torch's global generator."""
        mean_BD = torch.addmm(self.offset_D, context_BD, self.response_DD.T)
        return mean_BD.addmm_(torch.randn_like(context_BD), self.factor_DD.T)


def collapse_affine_chain(weight_DD: Tensor, time_SD: Tensor, steps: Sequence[ReverseStep]) -> AffineChain | None:
    """Return the distribution of x_0 under a denoiser x̂_0 = x · Wᵀ + c + p_t, from a standard normal x_T.

    Each reverse step is x ← x · A_tᵀ + of_clean · (c + p_t) + noise · z with A_t = of_clean · W + of_noisy · I, so x_0
    given c is normal, with a mean affine in c. All A_t share the eigenvectors of W, hence their products cost D
    multiplications a step instead of D³. Computed in float64, returned in W's type.

    Args:
        weight_DD: W.
        time_SD: p_t of every step, in the steps' order.
        steps: the reverse steps, first to last.

    Returns:
        The chain, or None where W is too close to having no basis of eigenvectors; then take the steps one by one.

    Raises:
        FloatingPointError: the weight is not finite.
    """
    if not torch.isfinite(weight_DD).all():
        raise FloatingPointError("sampling: the denoiser's weight is not finite; lower learning_rate")
    basis = _eigenbasis(weight_DD.double())
    if basis is None:
        return None
    eigenvalue_D, vectors_DD, inverse_DD = basis
    of_clean_S, of_noisy_S, noise_S = torch.tensor([step[1:] for step in steps], dtype=torch.float64).T

    gain_SD = of_clean_S[:, None] * eigenvalue_D + of_noisy_S[:, None]
    # What a step hands on is multiplied by the gains of all later steps.
    later_SD = torch.cat([gain_SD[1:].flip(0).cumprod(0).flip(0), gain_SD.new_ones(1, len(eigenvalue_D))])
    clean_SD = later_SD * of_clean_S[:, None]
    response_DD = (vectors_DD * clean_SD.sum(0)) @ inverse_DD
    offset_D = vectors_DD @ (clean_SD * (time_SD.to(inverse_DD) @ inverse_DD.T)).sum(0)
    # The noises' factors, the starting noise among them: Σ_t K_t K_tᴴ, in the basis of the eigenvectors.
    noises_SD = torch.cat([(later_SD[0] * gain_SD[0])[None], later_SD * noise_S[:, None]])
    gram_DD = (noises_SD.T @ noises_SD.conj()) * (inverse_DD @ inverse_DD.mH)
    covariance_DD = (vectors_DD @ gram_DD @ vectors_DD.mH).real
    variance_D, axes_DD = torch.linalg.eigh(covariance_DD)
    factor_DD = axes_DD * variance_D.clamp(min=0).sqrt()
    return AffineChain(*(part.to(weight_DD.dtype) for part in (response_DD.real, offset_D.real, factor_DD)))


def _eigenbasis(weight_DD: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Return eigenvalues, eigenvectors and their inverse, or None where they do not give the matrix back."""
    eigenvalue_D, vectors_DD = torch.linalg.eig(weight_DD)
    inverse_DD, info = torch.linalg.inv_ex(vectors_DD)
    if int(info):
        return None
    error = torch.linalg.norm((vectors_DD * eigenvalue_D) @ inverse_DD - weight_DD)
    if not error <= 1e-9 * torch.linalg.norm(weight_DD).clamp(min=1e-30):
        return None
    return eigenvalue_D, vectors_DD, inverse_DD
