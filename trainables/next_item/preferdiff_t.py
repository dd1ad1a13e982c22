"""PreferDiff-T (Liu et al., ICLR 2025): PreferDiff over text embeddings instead of learned item embeddings.

Legend: I items, E text embedding size.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from trainables.base import DropoutRate, NonNegativeFloat, PositiveFloat, PositiveInt, Probability
from trainables.next_item.diffusion_recommender import Sampler
from trainables.next_item.encoders import EncoderName
from trainables.next_item.frozen_items import optimizer_without_items
from trainables.next_item.matrix_weight import Precision
from trainables.next_item.preferdiff import Measure, PreferDiff
from trainables.next_item.text import OWN_AXES, TextEmbedding, Whitening, whitened


class PreferDiffT(PreferDiff):
    """PreferDiff whose item embeddings are whitened text embeddings that stay as they are.

    The size is that of the text embeddings, 384 with MiniLM where the paper's have 3072. Encoder, denoiser and the
    vector that replaces a history are trained; histories, targets, negatives and ranked items are text. As no
    parameter belongs to an item, a trained model ranks the items of another dataset too (§4.2).

    Args:
        domain_I: the items' domains, each of which is whitened by itself, as the released program does; None for one.
        whitening: `zca` as the paper says, `pca` as the released program does, which leaves out the rotation back.

    The other parameters are as in `PreferDiff` and `DiffusionRecommender`.

    Source: PreferDiff §4.1 (Table 1), §4.2 (Table 3), D.5, E.3 (Table 13).
    """

    # All arguments by name and no `**shared`: a size or an initialization is no parameter here, both are the text's.
    def __init__(
        self,
        items: int,
        history_length: int,
        text_IE: Tensor,
        domain_I: Tensor | None = None,
        *,
        learning_rate: PositiveFloat = 1e-4,
        weight_decay: NonNegativeFloat = 0.0,
        dropout: DropoutRate = 0.1,
        heads: PositiveInt = 2,
        guidance: NonNegativeFloat = 2.0,
        unconditional_probability: Probability = 0.1,
        diffusion_steps: PositiveInt = 2000,
        first_beta: PositiveFloat = 1e-4,
        last_beta: PositiveFloat = 0.02,
        sampler: Sampler = "ddim",
        ddim_steps: PositiveInt = 20,
        precision: Precision = "float32",
        encoder: EncoderName = "transformer",
        balance: Probability = 0.4,
        negatives: Literal["centroid", "each"] = "centroid",
        negative_samples: PositiveInt | None = None,
        measure: Measure = "cosine",
        variant: Literal["paper", "released"] = "paper",
        margin_scale: PositiveFloat | None = None,
        whitening: Whitening = "zca",
    ) -> None:
        super().__init__(
            items,
            history_length,
            size=text_IE.shape[1],
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            dropout=dropout,
            heads=heads,
            guidance=guidance,
            unconditional_probability=unconditional_probability,
            diffusion_steps=diffusion_steps,
            first_beta=first_beta,
            last_beta=last_beta,
            sampler=sampler,
            ddim_steps=ddim_steps,
            precision=precision,
            encoder=encoder,
            balance=balance,
            negatives=negatives,
            negative_samples=negative_samples,
            measure=measure,
            variant=variant,
            margin_scale=margin_scale,
        )
        self.embedding = TextEmbedding(whitened(text_IE, whitening, domain_I))
        self.tied_to_items = OWN_AXES if whitening == "pca" else ""

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW over encoder, denoiser and the vector that replaces a history."""
        return optimizer_without_items(self)
