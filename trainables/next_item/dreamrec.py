"""DreamRec (Yang et al. 2023) as PreferDiff compares with it.

Legend: B histories, D embedding size.
"""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from trainables.base import DropoutRate, NonNegativeFloat, PositiveFloat, PositiveInt, Probability, SequenceBatch
from trainables.next_item.diffusion_recommender import DiffusionRecommender, Sampler
from trainables.next_item.encoders import EncoderName
from trainables.next_item.matrix_weight import Precision


class DreamRec(DiffusionRecommender):
    """PreferDiff's model with squared error and no preference term, sampled by DDPM over all steps.

    Table 2's row w/o-C&N prints DreamRec's numbers in every cell. Parameters as in `DiffusionRecommender`; the best
    ones are not printed in the paper, Table 11 gives the search space alone.

    Source: PreferDiff eq. 1 and §4.1; the sampler from its appendix B.
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
        sampler: Sampler = "ddpm",
        ddim_steps: PositiveInt = 20,
        precision: Precision = "float32",
        encoder: EncoderName = "transformer",
    ) -> None:
        super().__init__(
            items,
            history_length,
            size=size,
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
        )

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the squared error of x̂_0, averaged over batch and dimensions (eq. 1)."""
        history_BLD, target_BD = self.embedding.histories_and_targets(batch)
        time_B, context_BD = self.training_context(history_BLD, batch.length_B)
        return functional.mse_loss(self.denoised(target_BD, time_B, context_BD), target_BD)
