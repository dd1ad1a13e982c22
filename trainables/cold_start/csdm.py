"""CSDM: supervised diffusion between an item's ID embedding and its side information (Zhu, Wang & Wu, AAAI 2025).

Legend: B rows of a batch, M items, S size of the concatenated side information, E size of the time embedding,
D embedding size, L positions of a sequence, T diffusion steps.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from trainables.base import CtrModel, DropoutRate, ItemTable, NonNegativeFloat, PositiveFloat, PositiveInt
from trainables.cold_start.csdm_gradients import Draws, GradientsByHand
from trainables.cold_start.generator import COUNT, EmbeddingGenerator, PreparedBatch
from trainables.cold_start.side_information import Start, start_small
from trainables.cold_start.unet import UNet
from trainables.diffusion.bridge import SideInformationBridge
from trainables.diffusion.schedules import csdm_schedule
from trainables.layers import Dropout, gather_rows
from trainables.workers import of_first_worker, workers


class CSDM(EmbeddingGenerator):
    """Generate item-ID embeddings from side information by a diffusion that the CTR loss supervises (eq. 5–13).

    `fit` is Algorithm 1 on the base rows: the frozen backbone sees generated embeddings, and the loss is
    BCE + ρ · L_diff (eq. 9), with gradients through the whole reverse process. For `adapt` and the arguments that are
    not listed here see `EmbeddingGenerator`.

    What belongs to an item alone (side information, reverse process, decoder) is computed once for each distinct
    item of a batch, so that the dropout of these parts is drawn once an item and not once a row; L_diff weighs items
    by their rows, which leaves its expectation as it is. `draws="row"` computes and draws for every row, as the
    release does.

    The generator trains in training mode, beside a frozen backbone in `backbone_mode`; the U-Net's dropout stays active
    while embeddings are generated.

    Args:
        backbone: the CTR model.
        rho: weight of L_diff (eq. 9); searched in {0.001, 0.01, 0.1, 1}.
        stride: s of the sub-sequence; searched in {5, 10}.
        steps: T.
        beta: of the schedule (eq. 11).
        sigma: of the reverse steps (eq. 10); 0 is deterministic but for the U-Net's dropout. It is at most
            √(1 − α_t) in a step to t: √β, 0.0032 by default, where the sub-sequence has more than one step.
        dropout: of h in the forward process (eq. 13).
        unet_dropout: of the U-Net's input.
        unet_hidden: sizes of the U-Net's layers, outer and inner, which the paper does not give.
        time_size: size of the position encoding.
        repetitions: how often each batch is used (10 on ML-1M, 2 on Taobao).
        variant: `paper`, or `released`: the U-Net stays at the weights that it starts with, and h is weighted by c_t,
            not √c_t. How they start is no part of the variant, see `start`.
        train_unet: False leaves the U-Net at the weights that it starts with, whatever the variant.
        start: `default`: all layers as torch draws them, the paper giving no start; `released`: both encoders and the
            decoder uniform in ±0.01, the U-Net's weights Xavier-normal and its biases N(0, 0.001²).
        reverse: `full` goes through the sub-sequence, `one_step` from its first step straight to z̃_0, and `none`
            leaves the diffusion out: z̃_0 = h, without L_diff.

    Raises:
        ValueError: `sigma` is above what a reverse step allows.
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
        start: Start = "default",
        reverse: Literal["full", "one_step", "none"] = "full",
        **shared: Any,
    ) -> None:
        super().__init__(backbone, **shared)
        self.rho, self.sigma, self.reverse = rho, sigma, reverse

        alpha, c = csdm_schedule(steps, beta)
        self.bridge = SideInformationBridge(alpha, c if variant == "released" else c.sqrt())
        sequence = self.bridge.sub_sequence(stride)
        self.reverse_steps = {"full": sequence, "one_step": sequence[:1], "none": ()}[reverse]
        # Computed with σ, which they bound, so that one too large is refused before anything trains.
        weights = tuple(self.bridge.reverse_weights(t, to, sigma) for t, to in pairwise((*self.reverse_steps, 0)))

        size = backbone.item_embedding.shape[1]
        self.encode_side = nn.Linear(self.side.size, size)
        self.encode_embedding = nn.Linear(size, size)
        self.forward_dropout = Dropout(dropout)
        self.unet = UNet(size, unet_hidden, time_size, steps, unet_dropout)
        self.decode = nn.Linear(size + self.has_count, size)
        self.unet_trains = train_unet and variant == "paper"
        if start == "released":
            for module in (self.encode_side, self.encode_embedding, self.decode):
                start_small(module)
            self.unet.start_as_released()

        self._by_hand = GradientsByHand(
            self.side,
            self.encode_side,
            self.encode_embedding,
            self.unet,
            self.decode,
            self.bridge,
            steps=self.reverse_steps,
            weights=weights,
            rho=rho,
            unet_trains=self.unet_trains,
        )

    @torch.no_grad()
    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor:
        """Return warmed-up embeddings [M, D], the same at all workers."""
        self.unet.train()
        columns = self._columns(items, item_M)
        h_MD: Tensor = self.encode_side(self.side(columns))
        scales = [self._scale(self.unet.dropout, h_MD) for _ in self.reverse_steps]
        return of_first_worker(self._decoded(h_MD, columns, self.unet.time_parts(), scales))

    def diffusion_loss(self, embedding_MD: Tensor, h_MD: Tensor, weight_M: Tensor, draws: Draws) -> Tensor:
        """Return the simplified L_diff, the squared error of the predicted noise, items weighted by `weight_M`."""
        z0_MD = self.encode_embedding(embedding_MD)
        z_MD = self.bridge.noised(z0_MD, h_MD * draws.h_scale_MD, draws.t_M, draws.noise_MD)
        time_part_MO = gather_rows(self.unet.time_parts(), draws.t_M)
        predicted_MD = self.unet(z_MD, time_part_MO, draws.unet_scale_PMD[-1])
        error_M = (predicted_MD - draws.noise_MD).square().mean(dim=1)
        return torch.dot(error_M, weight_M)

    def draw(self, like_MD: Tensor) -> Draws:
        """Draw what is random in the losses of M items."""
        passes = like_MD.new_empty(len(self.reverse_steps) + 1, *like_MD.shape)
        return Draws(
            unet_scale_PMD=self._scale(self.unet.dropout, passes),
            h_scale_MD=self._scale(self.forward_dropout, like_MD),
            t_M=torch.randint(1, self.bridge.steps + 1, (len(like_MD),), device=like_MD.device),
            noise_MD=torch.randn_like(like_MD),
        )

    def _generator_parameters(self) -> list[nn.Parameter]:
        modules = [self.side, self.encode_side, self.encode_embedding, self.decode]
        return [p for module in [*modules, *([self.unet] if self.unet_trains else [])] for p in module.parameters()]

    def _gradients(self, prepared: PreparedBatch) -> dict[str, Tensor]:
        if self.reverse == "none" or self.sigma or workers() > 1:
            return super()._gradients(prepared)
        count_M1 = prepared.columns[COUNT].unsqueeze(1) if self.has_count else None
        losses, gradients = self._by_hand(prepared, count_M1, self.draw(prepared.embedding_MD))
        for parameter, gradient in gradients.items():
            parameter.grad = gradient
        return losses

    def _losses(self, prepared: PreparedBatch, draws: Draws | None = None) -> dict[str, Tensor]:
        """Return the losses in their plain form, which `GradientsByHand` is equal to, up to rounding."""
        draws = draws or self.draw(prepared.embedding_MD)
        h_MD: Tensor = self.encode_side(self.side.of_prepared(prepared.side))
        scales = draws.unet_scale_PMD[:-1]
        losses = {"ctr_loss": prepared.ctr_loss(self._decoded(h_MD, prepared.columns, self.unet.time_parts(), scales))}
        if self.reverse != "none":
            loss = self.diffusion_loss(prepared.embedding_MD, h_MD, prepared.weight_M, draws)
            losses["weighted_diffusion_loss"] = self.rho * loss
        return losses

    def _decoded(
        self, h_MD: Tensor, columns: dict[str, Tensor], time_part_TO: Tensor, scales: Iterable[Tensor]
    ) -> Tensor:
        """Return embeddings by the reverse process from h, its steps' dropout scaling with `scales`."""
        scale_of_step = dict(zip(self.reverse_steps, scales, strict=True))
        z0_MD = self.bridge.reverse(
            h_MD,
            lambda z_MD, t: self.unet(z_MD, time_part_TO[t], scale_of_step[t]),
            self.reverse_steps,
            self.sigma,
        )
        embedding_MD: Tensor = self.decode(self._with_count(z0_MD, columns))
        return embedding_MD

    @staticmethod
    def _scale(dropout: Dropout, like: Tensor) -> Tensor:
        return dropout.scale(like) if dropout.training and dropout.p else torch.ones_like(like)
