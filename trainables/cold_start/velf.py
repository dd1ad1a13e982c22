"""VELF: variational embeddings of users and items, with priors from side information (Xu et al., WWW 2022).

Legend: B rows of a batch, M items, I items of the dataset, U users, S size of the side information, D embedding size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainables.base import (
    CtrBatch,
    CtrModel,
    FieldRole,
    FieldValues,
    ItemTable,
    Log,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    RowSource,
    no_log,
)
from trainables.cold_start.side_information import (
    BackboneFields,
    item_id_name,
    items_alone,
    two_layers,
    user_id_field,
)
from trainables.cold_start.training import TrainedColdStartMethod
from trainables.layers import gather_rows


@dataclass(frozen=True)
class Gaussian:
    """Independent Gaussians: means and log variances, each [B, D]."""

    mean_BD: Tensor
    log_variance_BD: Tensor

    def divergence_from(self, prior: Gaussian) -> Tensor:
        """Return KL(self ‖ prior), summed over D: [B]."""
        surprise_BD = self.log_variance_BD.exp() + (self.mean_BD - prior.mean_BD).square()
        ratio_BD = surprise_BD / prior.log_variance_BD.exp()
        return 0.5 * (ratio_BD + prior.log_variance_BD - self.log_variance_BD - 1).sum(dim=1)

    def noise(self) -> Tensor:
        """Return a draw's deviation from the mean [B, D], by the reparameterization trick."""
        return (0.5 * self.log_variance_BD).exp() * torch.randn_like(self.log_variance_BD)


class VariationalField(nn.Module):
    """The posterior deviations of one ID field's embeddings, and the prior that side information gives.

    A posterior's mean is the row of the backbone's own table. Log variances are kept relative to their start, so that
    weight decay and absent rows leave them there. Where the dataset knows nothing of the field but the ID, the prior is
    one learned Gaussian for all.
    """

    row_tables: ClassVar[tuple[str, ...]] = ("log_variance_ID",)

    def __init__(
        self, backbone: CtrModel, id_role: FieldRole, side_role: FieldRole, hidden_size: int, initial_deviation: float
    ) -> None:
        super().__init__()
        field = next(field for field in backbone.fields if field.role == id_role)
        embedded = [field.name for field in backbone.fields if field.kind != "number"]
        size = int(backbone.item_embedding.shape[1])
        self.name, self.position = field.name, embedded.index(field.name)
        self.start = 2 * math.log(initial_deviation)
        self.side = BackboneFields(backbone, side_role)
        self.log_variance_ID = nn.Parameter(torch.zeros(field.size, size))
        self.prior_network = two_layers(max(self.side.size, 1), hidden_size, 2 * size)

    def posterior(self, values: FieldValues, batch: CtrBatch) -> Gaussian:
        """Return q(z | ID) of a batch's rows."""
        log_variance_BD = gather_rows(self.log_variance_ID, batch.columns[self.name].long())
        return Gaussian(values.embedded_BFD[:, self.position], self.start + log_variance_BD)

    def prior(self, values: FieldValues) -> Gaussian:
        """Return p(z | side information) of a batch's rows."""
        side_BS = self.side(values)
        if not self.side.size:
            side_BS = side_BS.new_ones(len(side_BS), 1)
        mean_BD, log_variance_BD = self.prior_network(side_BS).chunk(2, dim=1)
        return Gaussian(mean_BD, self.start + log_variance_BD)


class VELF(TrainedColdStartMethod):
    """Learn Gaussians instead of points for users' and items' ID embeddings, held close to what side information says.

    The posteriors q(z | ID) are independent Gaussians with free parameters for each user and each item; the priors
    p(z | side information) are Gaussians that networks compute from the backbone's embeddings of the user's and the
    item's other fields (parameterized priors). Pretraining minimizes the negative evidence lower bound with one draw a
    row, BCE + `kl_weight` · Σ KL(q ‖ p), the priors being held close to a standard normal in turn (regularized priors),
    + `prior_weight` · Σ KL(p ‖ N(0, 1)), sums over the user and the item, means over rows.

    Prediction uses means: the posterior's, and for new items, who have no rows yet, the prior's. On a warm block the
    items' posteriors alone are trained, by the same bound.

    There is no release, so `kl_weight`, `prior_weight`, `initial_deviation` and the networks' sizes are ours. The bound
    counts an item's divergence once and not once a row, which would be a weight of 1/rows: 1/600 for the hot items of
    MovieLens-1M, 1/140 for its users. For the arguments that are not listed here see `TrainedColdStartMethod`.

    Args:
        backbone: the CTR model; its fields have one with the role `user_id`.
        kl_weight: of the divergence of a posterior from its prior.
        prior_weight: of the divergence of a prior from the standard normal.
        initial_deviation: the standard deviation that posteriors and priors start with.
        hidden_size: of the prior networks, two linear layers with ReLU between.
    """

    shares_pretraining: ClassVar[bool] = False

    def __init__(
        self,
        backbone: CtrModel,
        *,
        kl_weight: NonNegativeFloat = 1e-3,
        prior_weight: NonNegativeFloat = 1e-4,
        initial_deviation: PositiveFloat = 0.1,
        hidden_size: PositiveInt = 16,
        **shared: Any,
    ) -> None:
        super().__init__(backbone, **shared)
        self.kl_weight, self.prior_weight = kl_weight, prior_weight
        self.item_name = item_id_name(backbone)
        user_id_field(backbone, "VELF")
        self.item = VariationalField(backbone, "item_id", "item", hidden_size, initial_deviation)
        self.user = VariationalField(backbone, "user_id", "user", hidden_size, initial_deviation)

    def pretrain(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Train backbone, posteriors and priors on the hot items' rows."""
        self.train()
        rate = self.learning_rate
        self.minimize("pretrain", list(self.parameters()), self.losses, base, rate, self.epochs, seed=seed, log=log)

    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Do nothing: pretraining has trained all."""

    @torch.no_grad()
    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor:
        """Return the means [M, D] of the items' priors."""
        return self.item.prior(items_alone(self.backbone, items, item_M)).mean_BD

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        """Train the items' posteriors on the block."""
        self.train()
        posteriors = [self.backbone.item_embedding, self.item.log_variance_ID]
        rate, epochs = self.adapt_learning_rate, self.adapt_epochs
        self.minimize("adapt", posteriors, self.losses, block, rate, epochs, seed=seed, log=log)

    def losses(self, batch: CtrBatch) -> dict[str, Tensor]:
        """Return the terms of the negative evidence lower bound, weighted, means over a batch's rows."""
        values = self.backbone.embed(batch)
        variational = (self.item, self.user)
        posteriors = [field.posterior(values, batch) for field in variational]
        priors = [field.prior(values) for field in variational]
        logits_B = self.backbone.interact(self._drawn(values, posteriors))
        divergence_B = sum(
            (q.divergence_from(p) for q, p in zip(posteriors, priors, strict=True)), torch.zeros(len(batch))
        )
        prior_divergence_B = sum((p.divergence_from(_standard(p)) for p in priors), torch.zeros(len(batch)))
        return {
            "ctr_loss": F.binary_cross_entropy_with_logits(logits_B, batch.label_B),
            "weighted_divergence": self.kl_weight * divergence_B.mean(),
            "weighted_prior_divergence": self.prior_weight * prior_divergence_B.mean(),
        }

    def _drawn(self, values: FieldValues, posteriors: list[Gaussian]) -> FieldValues:
        noise_B2D = torch.stack([posterior.noise() for posterior in posteriors], dim=1)
        positions = torch.tensor([self.item.position, self.user.position])
        return replace(values, embedded_BFD=values.embedded_BFD.index_add(1, positions, noise_B2D))


def _standard(like: Gaussian) -> Gaussian:
    return Gaussian(torch.zeros_like(like.mean_BD), torch.zeros_like(like.log_variance_BD))
