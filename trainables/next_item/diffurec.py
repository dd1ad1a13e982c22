"""DiffuRec (Li et al. 2023) as PreferDiff's Table 1 compares with it.

Legend: B histories, L positions, D embedding size, T diffusion steps, I items, X one or D.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.base import DropoutRate, NonNegativeFloat, PositiveInt, SequenceBatch
from trainables.diffusion.gaussian import GaussianDiffusion, ReverseStep
from trainables.diffusion.noise_schedules import linear_variances
from trainables.diffusion.samplers import sample_by_steps
from trainables.next_item.adamw_trained import AdamWTrained
from trainables.next_item.denoiser import cosine_features, sinusoidal_features
from trainables.next_item.dropout import dropout
from trainables.next_item.encoders import EncoderName, build_encoder
from trainables.next_item.full_softmax import full_softmax_loss
from trainables.next_item.item_embedding import ItemEmbedding
from trainables.next_item.transformer import TransformerEncoder

RELEASED_EMBEDDING_DROPOUT = 0.3


def truncated_linear_variances(steps: int) -> Tensor:
    """Return the variances β_1 … β_T of the truncated linear schedule, float64 [T].

    They rise from 0.1/T + 0.01 to 20/T + 0.01; where that end would exceed 1, it is 1/T + 0.01.

    Source: Li et al. 2023, §4.1, with the constants of the authors' program.

    Raises:
        ValueError: a single step, whose variance would exceed 1.
    """
    last = 20 / steps + 0.01
    return linear_variances(steps, 0.1 / steps + 0.01, last if last <= 1 else 1 / steps + 0.01)


def wide_steps(diffusion: GaussianDiffusion) -> list[ReverseStep]:
    """Return the ancestral steps T, …, 1 with the variance β_t of x_t given x_{t−1}; the last has no noise.

    The mean is that of q(x_{t−1} | x_t, x_0), whose variance is smaller.

    Source: the program of Li et al. 2023; Ho, Jain, Abbeel 2020, §3.2.
    """
    bar = diffusion.alpha_bar
    *noisy, last = diffusion.ddpm_steps()
    return [*(step._replace(noise=(1 - bar[step.time] / bar[step.time - 1]) ** 0.5) for step in noisy), last]


class EncoderWithoutPositions(TransformerEncoder):
    """A `TransformerEncoder` whose position embeddings are zero and stay so, as no part of its state."""

    position_LD: Tensor  # type: ignore[assignment]

    def __init__(self, size: int, history_length: int, dropout: float, heads: int) -> None:
        super().__init__(size, history_length, dropout, heads)
        del self.position_LD
        self.register_buffer("position_LD", torch.zeros(history_length, size), persistent=False)


class DiffuRec(AdamWTrained):
    """The target's embedding, noised and added to every item of the history, restored by an encoder.

    z_i = e_i + λ_i · (x_t + d_t) with λ_i drawn for each item; the state at the last position is x̂_0, trained by
    cross-entropy with all items. Ranking starts from noise and takes all steps back; each step encodes the history.

    Args:
        items: number of items.
        history_length: positions of a history.
        size: embedding size.
        dropout: of embeddings, attention and feed-forward.
        heads: attention heads of the transformer.
        diffusion_steps: T, from the paper; PreferDiff's 2,000 steps for diffusion recommenders would encode each
            history 2,000 times.
        uncertainty: δ, mean and standard deviation of λ.
        variant: `released` follows the authors' program (github.com/WHUIR/DiffuRec) in five things. Positions have
            no embeddings; λ is drawn for every element of an item; the time layers see (t − 1) · 1000/T with the
            program's wavelengths (`cosine_features`); a step back adds noise of variance β_t (`wide_steps`); and
            the embedding dropout is 0.3.
        embedding_dropout: of the history's items before their layer norm, the first dropout that they meet; None for
            the variant's own, in `paper` the same as `dropout`.
        encoder: of the noised history; `gru`, which takes no heads, is for `paper` alone.

    The other parameters are as in `AdamWTrained`.

    Both variants have the transformer of PreferDiff D.2, one layer of two heads, which drops parts of its inputs, too.
    The program has four layers of four heads, with feed-forwards four times as wide; a history's items attend to its
    padding too, which is also among the items that are scored. It trains on every item of a sequence but the first (the
    setting `prefixes` does), with 50 positions and size 128, by Adam in batches of 512, at a rate that falls every 100
    epochs, until none of six metrics has become better for 100 epochs. Both variants draw times evenly, and so does the
    program: it has a sampler of important times, but never tells it a loss.

    Source: Li et al. 2023, §4 (eq. 12–17, Algorithms 1 and 2), and the authors' program.

    Raises:
        ValueError: the variant does not have the encoder, or the size is no multiple of the number of heads.
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
        variant: Literal["paper", "released"] = "paper",
        embedding_dropout: DropoutRate | None = None,
        encoder: EncoderName = "transformer",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        released = variant == "released"
        if released and encoder != "transformer":
            raise ValueError(f"DiffuRec: variant 'released' has no encoder {encoder!r}; use variant 'paper'")
        own_dropout = RELEASED_EMBEDDING_DROPOUT if released else dropout
        self.embedding_dropout = own_dropout if embedding_dropout is None else embedding_dropout
        self.uncertainty = uncertainty
        self.variant = variant
        self.embedding = ItemEmbedding(items, size, scored_in_loss=True)
        self.item_norm = nn.LayerNorm(size)
        if released:
            self.approximator: nn.Module = EncoderWithoutPositions(size, history_length, dropout, heads)
        else:
            self.approximator = build_encoder(encoder, size, history_length, dropout, heads, "float32")
        self.time_layers = nn.Sequential(nn.Linear(size, 4 * size), nn.SiLU(), nn.Linear(4 * size, size))
        self.diffusion = GaussianDiffusion(truncated_linear_variances(diffusion_steps))
        self.reverse_steps = wide_steps(self.diffusion) if released else self.diffusion.ddpm_steps()
        self.sinusoidal: Tensor
        times = diffusion_steps + 1
        stretch = 1000 / diffusion_steps
        features_TD = cosine_features(times, size, stretch) if released else sinusoidal_features(times, size)
        self.register_buffer("sinusoidal", features_TD, persistent=False)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the mean cross-entropy of the targets under x̂_0's dot products with all items (eq. 17)."""
        history_BLD, target_BD = self.embedding.histories_and_targets(batch)
        time_B = torch.randint(1, self.diffusion.steps + 1, (len(batch),))
        noised_BD = self.diffusion.noised(target_BD, time_B, torch.randn_like(target_BD))
        clean_BD = self._restored(self._normed(history_BLD), batch.length_B, noised_BD, time_B)
        return full_softmax_loss(clean_BD, self.embedding.weight, batch.target_B - 1)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        """Return dot products of generated embeddings with all items [B, I]."""
        history_BLD = self._normed(self.embedding.histories(batch))

        def denoise(x_BD: Tensor, time: int) -> Tensor:
            return self._restored(history_BLD, batch.length_B, x_BD, time)

        start_BD = torch.randn_like(history_BLD[:, 0])
        return self.embedding.scores(sample_by_steps(denoise, start_BD, self.reverse_steps))

    def _normed(self, history_BLD: Tensor) -> Tensor:
        normed_BLD: Tensor = self.item_norm(dropout(history_BLD, self.embedding_dropout, self.training))
        return normed_BLD

    def _restored(self, history_BLD: Tensor, length_B: Tensor, x_BD: Tensor, time: Tensor | int) -> Tensor:
        """Return x̂_0 [B, D] (eq. 13–14), given a time for each row [B] or one for all."""
        timed_BD = x_BD + self.time_layers(self.sinusoidal[time])
        width = history_BLD.shape[2] if self.variant == "released" else 1
        lambda_BLX = self.uncertainty + self.uncertainty * torch.randn(*history_BLD.shape[:2], width)
        clean_BD: Tensor = self.approximator(history_BLD + lambda_BLX * timed_BD.unsqueeze(1), length_B)
        return clean_BD
