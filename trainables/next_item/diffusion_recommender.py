"""What DreamRec and PreferDiff share: they generate the next item's embedding and rank items by dot product with it.

Legend: B histories, L positions, D embedding size, I items, S reverse steps.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from trainables.base import (
    DropoutRate,
    NextItemModel,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
    SequenceBatch,
)
from trainables.diffusion.affine_chain import AffineChain, affine_chain
from trainables.diffusion.gaussian import GaussianDiffusion
from trainables.diffusion.noise_schedules import linear_variances
from trainables.diffusion.samplers import sample_by_steps
from trainables.next_item.blockwise_adamw import BlockwiseAdamW
from trainables.next_item.denoiser import Content, Denoiser
from trainables.next_item.encoders import EncoderName, build_encoder
from trainables.next_item.item_embedding import Initialization, ItemEmbedding
from trainables.next_item.late_rows import LateRows, Rates
from trainables.next_item.matrix_weight import Precision

Sampler = Literal["ddim", "ddpm"]


class DiffusionRecommender(NextItemModel):
    """A diffusion over item embeddings, guided by the history; a subclass says what it trains with (`loss`).

    Args:
        items: number of items.
        history_length: positions of a history.
        size: embedding size.
        learning_rate: AdamW's.
        weight_decay: AdamW's.
        dropout: of embeddings, attention and feed-forward.
        heads: attention heads of the encoder.
        guidance: w, the strength of classifier-free guidance while sampling.
        unconditional_probability: p_u, how often a history is replaced by a learned vector in training.
        diffusion_steps: T.
        first_beta: variance that the first step adds.
        last_beta: variance that the last step adds; linear between.
        sampler: `ddpm` takes all T steps, `ddim` `ddim_steps` of them without noise.
        ddim_steps: S.
        precision: of the products with weights, in training and while sampling. Parameters, optimizer, everything
            elementwise, the products that rank items and those of all steps of `ddpm` taken together stay float32.
        encoder: of the history; `gru` takes neither heads nor precision.
        initialization: of the item embeddings alone, as in `ItemEmbedding`.

    Source: PreferDiff §2, §4.1, Algorithm 2; Table 17 for `initialization`.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        *,
        size: PositiveInt = 3072,
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
        initialization: Initialization = "standard_normal",
    ) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.guidance = guidance
        self.unconditional_probability = unconditional_probability
        self.embedding = ItemEmbedding(items, size, initialization=initialization)
        self.encoder = build_encoder(encoder, size, history_length, dropout, heads, precision)
        self.unconditional_D = nn.Parameter(torch.randn(size))
        self.denoiser = Denoiser(size, diffusion_steps, precision)
        self.diffusion = GaussianDiffusion(linear_variances(diffusion_steps, first_beta, last_beta))
        self.sampler = sampler
        self._chain: tuple[Content, AffineChain] | None = None
        self.reverse_steps = self.diffusion.ddpm_steps() if sampler == "ddpm" else self.diffusion.ddim_steps(ddim_steps)

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW over all parameters, in an order of work that saves memory traffic (`BlockwiseAdamW`)."""
        rates = Rates(self.learning_rate, self.weight_decay)
        self.embedding.late_rows = LateRows(self.embedding.weight, rates)
        matrices = [*self.encoder.matrices.values(), *self.denoiser.matrices.values()]
        return BlockwiseAdamW(self.parameters(), matrices, [self.embedding.late_rows], rates)

    def training_context(self, history_BLD: Tensor, length_B: Tensor) -> tuple[Tensor, Tensor]:
        """Draw times, drop histories for the unconditional model, and return what every x_t of a row shares.

        Returns:
            Times 1 … T, int64 [B], and the parts of x̂_0 that come from history and time [B, D].
        """
        state_BD = self.encoder(history_BLD, length_B)
        dropped_B1 = torch.rand(len(length_B), 1) < self.unconditional_probability
        state_BD = torch.where(dropped_B1, self.unconditional_D, state_BD)
        time_B = torch.randint(1, self.diffusion.steps + 1, (len(length_B),))
        return time_B, self.denoiser.history_part(state_BD) + self.denoiser.time_part(time_B)

    def denoised(self, clean_BD: Tensor, time_B: Tensor, context_BD: Tensor) -> Tensor:
        """Noise clean embeddings [B, …, D] to their row's time, and return the prediction x̂_0 of the same shape."""
        noised_BD = self.diffusion.noised(clean_BD, time_B, torch.randn_like(clean_BD))
        return self.denoiser.x_part(noised_BD) + context_BD

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return dot products of generated embeddings with all items [B, I]."""
        return self.embedding.scores(self.generate(batch))

    def generate(self, batch: SequenceBatch) -> Tensor:
        """Return the generated embeddings of the next items [B, D].

        Guidance mixes the predictions with and without history, (1 + w)·x̂_0(h) − w·x̂_0(∅); the denoiser is affine
        and the weights sum to one, so mixing the histories first is the same and halves the work.
        """
        state_BD = self.encoder(self.embedding.histories(batch), batch.length_B)
        mixed_BD = (1 + self.guidance) * state_BD - self.guidance * self.unconditional_D
        context_BD = self.denoiser.history_part(mixed_BD)
        if self.sampler == "ddpm":
            return self._affine_chain().sample(context_BD)
        return self._generate_by_steps(context_BD)

    def _affine_chain(self) -> AffineChain:
        """Return all reverse steps in few products, kept for the next batch while the denoiser stays the same."""
        content = self.denoiser.content()
        if self._chain is None or self._chain[0] != content:
            self._chain = content, affine_chain(self.denoiser.x_weight, self._time_parts(), self.reverse_steps)
        return self._chain[1]

    def _time_parts(self) -> Tensor:
        """Return the times' parts of x̂_0 in every reverse step [S, D]."""
        return self.denoiser.time_part(torch.tensor([step.time for step in self.reverse_steps]))

    def _generate_by_steps(self, context_BD: Tensor) -> Tensor:
        time_part = dict(zip((step.time for step in self.reverse_steps), self._time_parts(), strict=True))

        def denoise(x_BD: Tensor, time: int) -> Tensor:
            return self.denoiser.x_part(x_BD).add_(context_BD).add_(time_part[time])

        return sample_by_steps(denoise, torch.randn_like(context_BD), self.reverse_steps)
