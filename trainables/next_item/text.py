"""Text embeddings of items as next-item models take them: whitened, reduced, or as a frozen table.

Legend: I items, E text embedding size, D embedding size, B histories, L positions.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from trainables.next_item.item_embedding import ItemEmbedding

Whitening = Literal["zca", "pca", "none"]

NEGLIGIBLE = 1e-10
"""A direction whose variance is smaller than this share of the largest is rounding error, and is set to zero."""


OWN_AXES = "whitening = 'pca' turns each dataset to axes of its own, which no model of another knows; set zca"
"""Why a model of text whitened so is tied to the items that it was trained on."""


def whitened(text_IE: Tensor, whitening: Whitening, domain_I: Tensor | None = None) -> Tensor:
    """Return embeddings with zero mean and identity covariance (of I − 1 degrees of freedom), float32 [I, E].

    With `domain_I`, int [I], each domain's items are whitened by themselves, as they are where they are a dataset of
    their own. PreferDiff's released program then whitens all of them together, which changes what `zca` gives by a
    factor alone, of 1 ± 10⁻⁴ among thousands of items.

    `pca` turns them to their principal axes, the largest variance first, and divides by the standard deviations, as
    PreferDiff's released program does; `zca` turns them back afterwards, which its paper says; `none` leaves them as
    they are. Directions without variance become zero.

    Source: PreferDiff D.5; Bell, Sejnowski 1997.
    """
    if whitening == "none":
        return text_IE.float()
    if domain_I is not None:
        white_IE = torch.empty_like(text_IE, dtype=torch.float32)
        for domain in domain_I.unique():
            white_IE[domain_I == domain] = whitened(text_IE[domain_I == domain], whitening)
        return white_IE
    centered_IE, axis_EE, variance_E = _principal_axes(text_IE)
    real_E = variance_E > NEGLIGIBLE * variance_E[0]
    scale_E = torch.where(real_E, variance_E, 1.0).rsqrt() * real_E
    white_IE = centered_IE @ axis_EE * scale_E
    return (white_IE @ axis_EE.T if whitening == "zca" else white_IE).float()


def principal_components(text_IE: Tensor, size: int) -> Tensor:
    """Return the `size` principal components of largest variance, zero mean, not scaled, float32 [I, D].

    Raises:
        ValueError: the text embeddings have fewer dimensions.
    """
    if size > text_IE.shape[1]:
        raise ValueError(f"text embeddings have {text_IE.shape[1]} dimensions, fewer than size {size}; lower size")
    centered_IE, axis_EE, _ = _principal_axes(text_IE)
    return (centered_IE @ axis_EE[:, :size]).float()


def _principal_axes(text_IE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return centered embeddings, principal axes as columns, and variances, largest first; all in float64."""
    exact_IE = text_IE.double()
    centered_IE = exact_IE - exact_IE.mean(0)
    covariance_EE = centered_IE.T @ centered_IE / max(len(centered_IE) - 1, 1)
    variance_E, axis_EE = torch.linalg.eigh(covariance_EE)
    axis_EE = axis_EE.flip(1)
    # An axis has no direction of its own: the largest of its entries is made positive.
    largest_E = axis_EE.gather(0, axis_EE.abs().argmax(0, keepdim=True)).squeeze(0)
    return centered_IE, axis_EE * largest_E.sign(), variance_E.flip(0).clamp(min=0)


class TextEmbedding(ItemEmbedding):
    """A table [I, E] of text embeddings that stays as it is and is no part of a model's state.

    So a model that was trained on some items can rank others.
    """

    weight: Tensor  # type: ignore[assignment]

    def __init__(self, text_IE: Tensor) -> None:
        nn.Module.__init__(self)
        self.register_buffer("weight", text_IE, persistent=False)
        self.scored_in_loss = False
        self.late_rows = None
