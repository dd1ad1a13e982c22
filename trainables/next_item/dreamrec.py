"""DreamRec (Yang et al. 2023) as PreferDiff compares with it.

Legend: B histories, D embedding size.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import functional

from trainables.base import SequenceBatch
from trainables.next_item.diffusion_recommender import DiffusionRecommender, Sampler


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
        sampler: Sampler = "ddpm",
        **shared: Any,
    ) -> None:
        super().__init__(items, history_length, sampler=sampler, **shared)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the squared error of x̂_0, averaged over batch and dimensions (eq. 1)."""
        history_BLD, target_BD = self.embedding.histories_and_targets(batch)
        time_B, context_BD = self.training_context(history_BLD, batch.length_B)
        return functional.mse_loss(self.denoised(target_BD, time_B, context_BD), target_BD)
