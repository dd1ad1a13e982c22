"""DreamRec aligned with preferences: DPO (Rafailov et al. 2023) and Diffusion-DPO (Wallace et al. 2024).

Legend: B histories, D embedding size.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.nn import functional

from trainables.base import (
    PositiveFloat,
    SequenceBatch,
)
from trainables.next_item.dreamrec import DreamRec
from trainables.next_item.frozen_items import optimizer_without_items


class DreamRecDPO(DreamRec):
    """A trained DreamRec that learns to prefer the next item (w) to another row's (l), relative to itself as it was.

    −log σ(−β · [(‖x̂_w − w‖² − ‖x̂_l − l‖²) − (‖x̂ʳ_w − w‖² − ‖x̂ʳ_l − l‖²)]), where x̂ʳ is the reference's: the
    checkpoint that this trial starts from, which stays as it is. The two objectives differ in what x̂_w and x̂_l are:

    - `diffusion`: predictions from w and l noised to one drawn time with one noise (Wallace et al. eq. 14, weights and
      T in β), the likelihood of a path;
    - `sample`: one prediction for both, from pure noise at time T, so that −‖x̂ − x‖² is up to constants the
      log-likelihood of x under a Gaussian around what the model generates in one step (eq. 9 needs a likelihood; the
      paper does not say which one its DPO takes, this is our reading).

    Squared errors are summed over dimensions. The item embeddings, which are the data that both likelihoods are of,
    stay those of the checkpoint. Negatives are other rows' targets, one a row.

    Args:
        objective: `sample` is DPO, `diffusion` is Diffusion-DPO.
        beta: β, how strongly the model is held to the reference.

    The other parameters are as in `DiffusionRecommender`; those of the checkpoint's trial must be the same where they
    shape the model. `dropout` may be the checkpoint's too, but nothing is dropped: squared errors summed over
    dimensions would turn the noise into a margin over the reference that no preference stands behind.

    Source: PreferDiff F.6, Table 20 (β of 1, 5, 10), eq. 9.
    """

    trains_from_start: ClassVar[bool] = True

    def __init__(
        self,
        items: int,
        history_length: int,
        *,
        objective: Literal["sample", "diffusion"] = "diffusion",
        beta: PositiveFloat = 1.0,
        **shared: Any,
    ) -> None:
        super().__init__(items, history_length, **shared)
        self.objective = objective
        self.beta = beta
        self.encoder.dropout = 0.0  # A rate, not a mode: evaluation mode would keep cuDNN from a GRU's gradient.
        self.embedding.weight.requires_grad_(False)
        # In a tuple, as the reference is neither trained nor part of the state.
        self._reference: tuple[DreamRecDPO, ...] = ()

    def start_from(self, state: Mapping[str, Tensor]) -> None:
        """Take over a DreamRec's checkpoint, as the model to train and as the reference."""
        self.load_state_dict(state)
        self._reference = ()
        reference = copy.deepcopy(self).eval().requires_grad_(False)
        reference.embedding = self.embedding
        self._reference = (reference,)

    def optimizer(self) -> torch.optim.Optimizer:
        """Return AdamW over encoder, denoiser and the vector that replaces a history."""
        return optimizer_without_items(self)

    def loss(self, batch: SequenceBatch) -> Tensor:
        """Return the loss, averaged over the rows that have another row with another target.

        Raises:
            ValueError: there is no reference; call `start_from`.
        """
        if not self._reference:
            raise ValueError("DreamRecDPO: there is no reference; give its row starts_from")
        history_BLD, preferred_BD = self.embedding.histories_and_targets(batch)
        other_BD = self.embedding.weight[other_targets(batch.target_B).long() - 1]
        rows = len(batch)
        dropped_B1 = torch.rand(rows, 1) < self.unconditional_probability
        if self.objective == "diffusion":
            time_B = torch.randint(1, self.diffusion.steps + 1, (rows,))
            noise_BD = torch.randn_like(preferred_BD)
            starts = [self.diffusion.noised(item_BD, time_B, noise_BD) for item_BD in (preferred_BD, other_BD)]
        else:
            time_B = torch.full((rows,), self.diffusion.steps)
            starts = [torch.randn_like(preferred_BD)]

        def margin(model: DreamRecDPO) -> Tensor:
            state_BD = torch.where(dropped_B1, model.unconditional_D, model.encoder(history_BLD, batch.length_B))
            context_BD = model.denoiser.history_part(state_BD) + model.denoiser.time_part(time_B)
            predicted = [model.denoiser.x_part(start_BD) + context_BD for start_BD in starts]
            preferred_B = (predicted[0] - preferred_BD).square().sum(1)
            return preferred_B - (predicted[-1] - other_BD).square().sum(1)

        with torch.no_grad():
            reference_B = margin(self._reference[0])
        loss_B = -functional.logsigmoid(-self.beta * (margin(self) - reference_B))
        paired_B = (preferred_BD != other_BD).any(1)
        return (loss_B * paired_B).sum() / paired_B.sum().clamp(min=1)


def other_targets(target_B: Tensor) -> Tensor:
    """Return for every row the target of another row, drawn at random; equal targets are possible."""
    rows = len(target_B)
    if rows == 1:
        return target_B
    offset_B = torch.randint(1, rows, (rows,))
    return target_B[(torch.arange(rows) + offset_B) % rows]
