"""DiffuRec (Li et al. 2023) as PreferDiff's Table 1 compares with it.

Legend: B histories, L positions, D embedding size, T diffusion steps, I items.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from trainables.base import DropoutRate, NonNegativeFloat, PositiveInt, SequenceBatch
from trainables.diffusion.gaussian import GaussianDiffusion
from trainables.diffusion.noise_schedules import linear_variances
from trainables.diffusion.samplers import sample_by_steps
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.denoiser import sinusoidal_features
from trainables.next_item.dropout import dropout
from trainables.next_item.full_softmax import full_softmax_loss
from trainables.next_item.item_embedding import ItemEmbedding
from trainables.next_item.transformer import TransformerEncoder


def truncated_linear_variances(steps: int) -> Tensor:
    """Return the variances β_1 … β_T of the truncated linear schedule, float64 [T].

    They rise from 0.1/T + 0.01 to 20/T + 0.01; where that end would exceed 1, it is 1/T + 0.01.

    Source: Li et al. 2023, §4.1, with the constants of the authors' program.

    Raises:
        ValueError: a single step, whose variance would exceed 1.
    """
    last = 20 / steps + 0.01
    return linear_variances(steps, 0.1 / steps + 0.01, last if last <= 1 else 1 / steps + 0.01)


class DiffuRec(AdamWTrained):
    """The target's embedding, noised and added to every item of the history, restored by a transformer.

    z_i = e_i + λ_i · (x_t + d_t) with λ_i drawn for each item; the state at the last position is x̂_0, trained by
    cross-entropy with all items. Ranking starts from noise and takes all steps back; each step encodes the history.

    Args:
        items: number of items.
        history_length: positions of a history.
        size: embedding size.
        dropout: of embeddings, attention and feed-forward.
        heads: attention heads.
        diffusion_steps: T, from the paper; PreferDiff's 2,000 steps for diffusion recommenders would encode each
            history 2,000 times.
        uncertainty: δ, mean and standard deviation of λ.

    The other parameters are as in `AdamWTrained`.

    Source: Li et al. 2023, §4 (eq. 12–17, Algorithms 1 and 2); one layer and two heads from PreferDiff D.2, where its
    own program has four layers of four.
    """

    def __init__(
        self,
        items: int,
        history_length: int,
        *,
        size: PositiveInt = 64,
        dropout: DropoutRate = 0.1,
        heads: PositiveInt = 2,
        diffusion_steps: PositiveInt = 32,
        uncertainty: NonNegativeFloat = 0.001,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.dropout = dropout
        self.uncertainty = uncertainty
        self.embedding = ItemEmbedding(items, size, scored_in_loss=True)
        self.item_norm = nn.LayerNorm(size)
        self.approximator = TransformerEncoder(size, history_length, dropout, heads)
        self.time_layers = nn.Sequential(nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size))
        self.diffusion = GaussianDiffusion(truncated_linear_variances(diffusion_steps))
        self.sinusoidal: Tensor
        self.register_buffer("sinusoidal", sinusoidal_features(diffusion_steps + 1, size), persistent=False)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean cross-entropy of the targets under x̂_0's dot products with all items (eq. 17)."""
        history_BLD, target_BD = self.embedding.histories_and_targets(batch)
        time_B = torch.randint(1, self.diffusion.steps + 1, (len(batch),))
        noised_BD = self.diffusion.noised(target_BD, time_B, torch.randn_like(target_BD))
        clean_BD = self._restored(self._normed(history_BLD), batch.length_B, noised_BD, self.sinusoidal[time_B])
        return full_softmax_loss(clean_BD, self.embedding.weight, batch.target_B - 1)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return dot products of generated embeddings with all items [B, I]."""
        history_BLD = self._normed(self.embedding.histories(batch))

        def denoise(x_BD: Tensor, time: int) -> Tensor:
            return self._restored(history_BLD, batch.length_B, x_BD, self.sinusoidal[time])

        start_BD = torch.randn_like(history_BLD[:, 0])
        return self.embedding.scores(sample_by_steps(denoise, start_BD, self.diffusion.ddpm_steps()))

    def _normed(self, history_BLD: Tensor) -> Tensor:
        normed_BLD: Tensor = self.item_norm(dropout(history_BLD, self.dropout, self.training))
        return normed_BLD

    def _restored(self, history_BLD: Tensor, length_B: Tensor, x_BD: Tensor, time_features: Tensor) -> Tensor:
        """Return x̂_0 [B, D] (eq. 13–14)."""
        timed_BD = x_BD + self.time_layers(time_features)
        draw_BL1 = torch.randn(*history_BLD.shape[:2], 1)
        lambda_BL1 = self.uncertainty + self.uncertainty * draw_BL1
        clean_BD: Tensor = self.approximator(history_BLD + lambda_BL1 * timed_BD.unsqueeze(1), length_B)
        return clean_BD
