"""CVAR: a conditional variational autoencoder from side information to embeddings (Zhao et al., SIGIR 2022).

Legend: B rows of a batch, M items, D embedding size, Z latent size.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from trainables.base import CtrModel, ItemTable, NonNegativeFloat, PositiveInt
from trainables.cold_start.generator import EmbeddingGenerator, PreparedBatch
from trainables.cold_start.side_information import start_small
from trainables.cold_start.training import rows_of_all_workers
from trainables.workers import of_first_worker


class Latent(NamedTuple):
    """Latent Gaussians: means and standard deviations, each [M, Z]."""

    mean_MZ: Tensor
    deviation_MZ: Tensor


class GaussianEncoder(nn.Module):
    """One linear layer each to the mean and the log variance of a latent Gaussian."""

    def __init__(self, inputs: int, latent_size: int) -> None:
        super().__init__()
        self.mean = nn.Linear(inputs, latent_size)
        self.log_variance = nn.Linear(inputs, latent_size)

    def forward(self, x: Tensor) -> Latent:
        """Encode [M, inputs]."""
        return Latent(self.mean(x), (0.5 * self.log_variance(x)).exp())


def wasserstein(one: Latent, other: Latent) -> Tensor:
    """Return the squared 2-Wasserstein distances [M] of Gaussians with diagonal covariances."""
    shift_MZ, stretch_MZ = one.mean_MZ - other.mean_MZ, one.deviation_MZ - other.deviation_MZ
    return (shift_MZ.square() + stretch_MZ.square()).sum(dim=1)


class CVAR(EmbeddingGenerator):
    """Decode item-ID embeddings from a latent state that side information alone can tell.

    An item's embedding and its side information are encoded as two latent Gaussians, which a Wasserstein distance
    draws together. A state z from the first must decode to the embedding, a state z_p from the second to an embedding
    with which the frozen backbone predicts well; the decoder also gets the item's frequency. A batch's loss is
    BCE(z_p) + reconstruction(z) + `alignment_weight` · Wasserstein: the first two are means over rows, the last is a
    sum over the batch, as in the authors' release, so that its weight grows with the batch size.

    The release scales the latent noise by 1e-4, which leaves almost no variational part; its encoders and decoder start
    uniform in ±0.01, its embeddings of side information standard normal. For the arguments that are not listed here see
    `EmbeddingGenerator`.

    Args:
        backbone: the CTR model.
        repetitions: how often each batch is used (10 on ML-1M, once on Taobao).
        latent_noise: factor of the standard deviation when latent states are drawn; 1 is a variational autoencoder's,
            0 turns the noise off.
        alignment_weight: of the Wasserstein distance.
        reconstruction_weight: of the squared error of the decoded embedding, summed over its D numbers.
        latent_size: Z.
    """

    def __init__(
        self,
        backbone: CtrModel,
        *,
        latent_noise: NonNegativeFloat = 1e-4,
        alignment_weight: NonNegativeFloat = 1e-4,
        reconstruction_weight: NonNegativeFloat = 1.0,
        latent_size: PositiveInt = 16,
        **shared: Any,
    ) -> None:
        super().__init__(backbone, **shared)
        self.latent_noise = latent_noise
        self.alignment_weight, self.reconstruction_weight = alignment_weight, reconstruction_weight
        size = int(backbone.item_embedding.shape[1])
        self.encode_embedding = GaussianEncoder(size, latent_size)
        self.encode_side = GaussianEncoder(self.side.size, latent_size)
        self.decode = nn.Linear(latent_size + self.has_count, size)
        for module in (self.encode_embedding, self.encode_side, self.decode):
            start_small(module)

    @torch.no_grad()
    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor:
        """Return embeddings [M, D] decoded from side information, the same at all workers."""
        columns = self._columns(items, item_M)
        return of_first_worker(self._decoded(self.encode_side(self.side(columns)), columns))

    def _generator_parameters(self) -> list[nn.Parameter]:
        modules = (self.side, self.encode_embedding, self.encode_side, self.decode)
        return [parameter for module in modules for parameter in module.parameters()]

    def _losses(self, prepared: PreparedBatch) -> dict[str, Tensor]:
        of_side = self.encode_side(self.side.of_prepared(prepared.side))
        of_embedding = self.encode_embedding(prepared.embedding_MD)
        generated_MD = self._decoded(of_side, prepared.columns)
        error_M = (self._decoded(of_embedding, prepared.columns) - prepared.embedding_MD).square().sum(dim=1)
        reconstruction = torch.dot(error_M, prepared.weight_M)
        distance = torch.dot(wasserstein(of_embedding, of_side), prepared.weight_M)
        # Several workers weigh a loss as a mean over all their rows; times the number of these it is a sum.
        rows = rows_of_all_workers(len(prepared.label_B))
        return {
            "ctr_loss": prepared.ctr_loss(generated_MD),
            "weighted_reconstruction_loss": self.reconstruction_weight * reconstruction,
            "weighted_alignment_loss": self.alignment_weight * rows * distance,
        }

    def _decoded(self, latent: Latent, columns: dict[str, Tensor]) -> Tensor:
        latent_MZ = latent.mean_MZ
        if self.latent_noise:
            latent_MZ = latent_MZ + self.latent_noise * latent.deviation_MZ * torch.randn_like(latent_MZ)
        embedding_MD: Tensor = self.decode(self._with_count(latent_MZ, columns))
        return embedding_MD
