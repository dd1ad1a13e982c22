"""CSDM: supervised diffusion between an item's ID embedding and its side information (Zhu, Wang & Wu, AAAI 2025).

Legend: B rows of a batch, M items, S size of the concatenated side information, E size of the time embedding,
D embedding size, L positions of a sequence, T diffusion steps.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.base import CtrModel, DropoutRate, ItemTable, NonNegativeFloat, PositiveFloat, PositiveInt
from trainables.cold_start.generator import EmbeddingGenerator, PreparedBatch
from trainables.cold_start.unet import UNet
from trainables.diffusion.bridge import SideInformationBridge
from trainables.diffusion.schedules import csdm_schedule
from trainables.layers import Dropout, gather_rows


class CSDM(EmbeddingGenerator):
    """Generate item-ID embeddings from side information by a diffusion that the CTR loss supervises (eq. 5–13).

    `fit` is Algorithm 1 on the base rows: the frozen backbone sees generated embeddings, and the loss is
    BCE + ρ · L_diff (eq. 9), with gradients through the whole reverse process. For `adapt` and the arguments that are
    not listed here see `EmbeddingGenerator`.

    What belongs to an item alone (side information, reverse process, decoder) is computed once for each distinct
    item of a batch, so that the dropout of these parts is drawn once an item and not once a row; L_diff weighs items
    by their rows, which leaves its expectation as it is. `draws="row"` computes and draws for every row, as the
    release does.

    Everything trains in training mode, and the U-Net's dropout stays active while embeddings are generated.

    Args:
        backbone: the CTR model.
        rho: weight of L_diff (eq. 9); searched in {0.001, 0.01, 0.1, 1}.
        stride: s of the sub-sequence; searched in {5, 10}.
        steps: T.
        beta: of the schedule (eq. 11).
        sigma: of the reverse steps (eq. 10); 0 is deterministic but for the U-Net's dropout.
        dropout: of h in the forward process (eq. 13).
        unet_dropout: of the U-Net's input.
        unet_hidden: sizes of the U-Net's layers, outer and inner, which the paper does not give.
        time_size: size of the position encoding.
        repetitions: how often each batch is used (10 on ML-1M, 2 on Taobao).
        variant: `paper`, or `released`: the U-Net stays at its initial weights and h is weighted by c_t, not √c_t.
        train_unet: False leaves the U-Net at its initial weights, whatever the variant.
        reverse: `full` goes through the sub-sequence, `one_step` from its first step straight to z̃_0, and `none`
            leaves the diffusion out: z̃_0 = h, without L_diff.
    """

    def __init__(
        self,
        backbone: CtrModel,
        *,
        rho: NonNegativeFloat = 1e-3,
        stride: PositiveInt = 10,
        steps: PositiveInt = 100,
        beta: PositiveFloat = 1e-5,
        sigma: NonNegativeFloat = 0.0,
        dropout: DropoutRate = 0.5,
        unet_dropout: DropoutRate = 0.5,
        unet_hidden: tuple[PositiveInt, PositiveInt] = (16, 16),
        time_size: PositiveInt = 32,
        variant: Literal["paper", "released"] = "paper",
        train_unet: bool = True,
        reverse: Literal["full", "one_step", "none"] = "full",
        **shared: Any,
    ) -> None:
        super().__init__(backbone, **shared)
        self.rho, self.sigma, self.reverse = rho, sigma, reverse

        alpha, c = csdm_schedule(steps, beta)
        self.bridge = SideInformationBridge(alpha, c if variant == "released" else c.sqrt())
        self.sub_sequence = self.bridge.sub_sequence(stride)

        size = backbone.item_embedding.shape[1]
        self.encode_side = nn.Linear(self.side.size, size)
        self.encode_embedding = nn.Linear(size, size)
        self.forward_dropout = Dropout(dropout)
        self.unet = UNet(size, unet_hidden, time_size, steps, unet_dropout)
        self.decode = nn.Linear(size + self.has_count, size)
        self.unet_trains = train_unet and variant == "paper"

    @torch.no_grad()
    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor:
        """Return warmed-up embeddings [M, D]."""
        self.unet.train()
        columns = self._columns(items, item_M)
        h_MD: Tensor = self.encode_side(self.side(columns))
        return self._decoded(h_MD, columns, self.unet.time_parts())

    def diffusion_loss(
        self, embedding_MD: Tensor, h_MD: Tensor, weight_M: Tensor, time_part_TO: Tensor | None = None
    ) -> Tensor:
        """Return the simplified L_diff, the squared error of the predicted noise, items weighted by `weight_M`."""
        z0_MD = self.encode_embedding(embedding_MD)
        t_M = torch.randint(1, self.bridge.steps + 1, (len(h_MD),))
        noise_MD = torch.randn_like(z0_MD)
        z_MD = self.bridge.noised(z0_MD, self.forward_dropout(h_MD), t_M, noise_MD)
        time_part_TO = self.unet.time_parts() if time_part_TO is None else time_part_TO
        time_part_MO = gather_rows(time_part_TO, t_M)
        error_M = (self.unet.noise(z_MD, time_part_MO) - noise_MD).square().mean(dim=1)
        return torch.dot(error_M, weight_M)

    def _generator_parameters(self) -> list[nn.Parameter]:
        modules = [self.side, self.encode_side, self.encode_embedding, self.decode]
        return [p for module in [*modules, *([self.unet] if self.unet_trains else [])] for p in module.parameters()]

    def _losses(self, prepared: PreparedBatch) -> dict[str, Tensor]:
        h_MD: Tensor = self.encode_side(self.side.of_prepared(prepared.side))
        time_part_TO = self.unet.time_parts()
        losses = {"ctr_loss": prepared.ctr_loss(self._decoded(h_MD, prepared.columns, time_part_TO))}
        if self.reverse != "none":
            loss = self.diffusion_loss(prepared.embedding_MD, h_MD, prepared.weight_M, time_part_TO)
            losses["weighted_diffusion_loss"] = self.rho * loss
        return losses

    def _decoded(self, h_MD: Tensor, columns: dict[str, Tensor], time_part_TO: Tensor) -> Tensor:
        z0_MD = self._denoised(h_MD, time_part_TO)
        embedding_MD: Tensor = self.decode(self._with_count(z0_MD, columns))
        return embedding_MD

    def _denoised(self, h_MD: Tensor, time_part_TO: Tensor) -> Tensor:
        """Return z̃_0 by the reverse process from h; its draws for σ > 0 leave no way around the plain form."""
        steps = {"full": self.sub_sequence, "one_step": self.sub_sequence[:1], "none": ()}[self.reverse]
        if self.sigma:
            return self.bridge.reverse(h_MD, lambda z_MD, t: self.unet(z_MD, time_part_TO[t]), steps, self.sigma)
        weights = tuple(self.bridge.reverse_weights(t, to) for t, to in pairwise((*steps, 0)))
        return self.unet.reverse(h_MD, time_part_TO[list(steps)], weights)
