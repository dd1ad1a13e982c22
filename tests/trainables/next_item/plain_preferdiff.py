"""PreferDiff as its paper writes it down, without a thought for speed: what the fast form must equal.

Legend: B histories, L positions, D embedding size, I items.
"""

import torch
from torch import Tensor
from torch.nn import functional

from trainables.base import SequenceBatch
from trainables.next_item.preferdiff import PreferDiff
from trainables.next_item.transformer import TransformerEncoder


class PlainPreferDiff(PreferDiff):
    """All positions encoded, [x; h; t] concatenated, two predictions for guidance, dense gradients, torch's AdamW."""

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.parameters(), self.learning_rate, weight_decay=self.weight_decay)

    def plain_state(self, batch: SequenceBatch) -> Tensor:
        embedded_BLD = functional.embedding((batch.history_BL - 1).clamp(min=0), self.embedding.weight)
        assert isinstance(self.encoder, TransformerEncoder)
        state_BLD = self.encoder.all_positions(embedded_BLD, batch.length_B)
        return state_BLD[torch.arange(len(batch)), batch.length_B.long() - 1]

    def plain_denoised(self, clean_BD: Tensor, state_BD: Tensor, time_B: Tensor) -> Tensor:
        noised_BD = self.diffusion.noised(clean_BD, time_B, torch.randn_like(clean_BD))
        denoised: Tensor = self.denoiser(noised_BD, state_BD, time_B)
        return denoised

    def loss(self, batch: SequenceBatch) -> Tensor:
        state_BD = self.plain_state(batch)
        dropped_B1 = torch.rand(len(batch), 1) < self.unconditional_probability
        state_BD = torch.where(dropped_B1, self.unconditional_D, state_BD)
        time_B = torch.randint(1, self.diffusion.steps + 1, (len(batch),))
        target_BD = functional.embedding(batch.target_B - 1, self.embedding.weight)
        centroid_BD = (target_BD.sum(0) - target_BD) / (len(batch) - 1)
        positive_B = 1 - functional.cosine_similarity(self.plain_denoised(target_BD, state_BD, time_B), target_BD)
        negative_B = 1 - functional.cosine_similarity(self.plain_denoised(centroid_BD, state_BD, time_B), centroid_BD)
        preference_B = -functional.logsigmoid(-(len(batch) - 1) * (positive_B - negative_B))
        return self.balance * positive_B.mean() + (1 - self.balance) * preference_B.mean()

    def generate(self, batch: SequenceBatch) -> Tensor:
        state_BD = self.plain_state(batch)
        nothing_BD = self.unconditional_D.expand_as(state_BD)
        x_BD = torch.randn_like(state_BD)
        for step in self.reverse_steps:
            time_B = torch.full((len(batch),), step.time)
            with_history_BD = self.denoiser(x_BD, state_BD, time_B)
            without_BD = self.denoiser(x_BD, nothing_BD, time_B)
            clean_BD = (1 + self.guidance) * with_history_BD - self.guidance * without_BD
            x_BD = clean_BD * step.of_clean + x_BD * step.of_noisy
        return x_BD
