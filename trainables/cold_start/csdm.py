"""CSDM: supervised diffusion between an item's ID embedding and its side information (Zhu, Wang & Wu, AAAI 2025).

Legend: B rows of a batch, M items, S size of the concatenated side information, E size of the time embedding,
D embedding size, L positions of a sequence, T diffusion steps.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainables.base import CtrModel, DropoutRate, ItemTable, NonNegativeFloat, PositiveFloat, PositiveInt
from trainables.cold_start.generator import BackboneMode, EmbeddingGenerator, PreparedBatch
from trainables.diffusion.bridge import SideInformationBridge
from trainables.diffusion.schedules import csdm_schedule
from trainables.layers import Dropout, gather_rows


class UNet(nn.Module):
    """CSDM's "U-Net": dropout on z_t, the time embedding beside it, two layers in and two layers out with tanh.

    The time embedding is the position encoding of t (Vaswani et al. 2017) through one linear layer.
    """

    def __init__(self, size: int, hidden: tuple[int, int], time_size: int, steps: int, dropout: float) -> None:
        super().__init__()
        outer, inner = hidden
        self.size = size
        self.dropout = Dropout(dropout)
        self.time = nn.Linear(time_size, time_size)
        self.first = nn.Linear(size + time_size, outer)
        self.rest = nn.Sequential(
            nn.Tanh(),
            nn.Linear(outer, inner),
            nn.Tanh(),
            nn.Linear(inner, outer),
            nn.Tanh(),
            nn.Linear(outer, size),
        )
        self.register_buffer("positions_TE", _positions(steps + 1, time_size), persistent=False)

    def time_part(self, t_K: Tensor) -> Tensor:
        """Return what the first layer adds for each of these steps, its bias included [K, outer]."""
        time_KE = self.time(self.get_buffer("positions_TE")[t_K])
        return F.linear(time_KE, self.first.weight[:, self.size :], self.first.bias)

    def forward(self, z_MD: Tensor, time_part: Tensor) -> Tensor:
        """Return the predicted noise [M, D]; `time_part` is [M, outer], or [outer] for rows at the same step."""
        first = F.linear(self.dropout(z_MD), self.first.weight[:, : self.size]) + time_part
        noise_MD: Tensor = self.rest(first)
        return noise_MD


def _positions(steps: int, size: int) -> Tensor:
    half = size // 2
    frequency_E = torch.exp(-math.log(10_000) * torch.arange(half) / max(half, 1))
    angle_TE = torch.arange(steps).unsqueeze(1) * frequency_E
    return F.pad(torch.cat([angle_TE.cos(), angle_TE.sin()], dim=1), (0, size - 2 * half))


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
        learning_rate: PositiveFloat = 1e-3,
        weight_decay: NonNegativeFloat = 1e-6,
        epochs: PositiveInt = 1,
        batch_size: PositiveInt = 2048,
        adapt_learning_rate: PositiveFloat = 1e-3,
        adapt_epochs: PositiveInt = 1,
        rho: NonNegativeFloat = 1e-3,
        stride: PositiveInt = 10,
        steps: PositiveInt = 100,
        beta: PositiveFloat = 1e-5,
        sigma: NonNegativeFloat = 0.0,
        dropout: DropoutRate = 0.5,
        unet_dropout: DropoutRate = 0.5,
        unet_hidden: tuple[PositiveInt, PositiveInt] = (16, 16),
        time_size: PositiveInt = 32,
        generator_learning_rate: PositiveFloat = 1e-3,
        repetitions: PositiveInt = 10,
        fit_epochs: PositiveInt = 1,
        adapt_generator_epochs: PositiveInt = 2,
        backbone_mode: BackboneMode = "training",
        variant: Literal["paper", "released"] = "paper",
        train_unet: bool = True,
        reverse: Literal["full", "one_step", "none"] = "full",
        side_fields: tuple[str, ...] | None = None,
        draws: Literal["item", "row"] = "item",
    ) -> None:
        super().__init__(
            backbone,
            learning_rate=learning_rate,
            weight_decay=weight_decay,
            epochs=epochs,
            batch_size=batch_size,
            adapt_learning_rate=adapt_learning_rate,
            adapt_epochs=adapt_epochs,
            generator_learning_rate=generator_learning_rate,
            repetitions=repetitions,
            fit_epochs=fit_epochs,
            adapt_generator_epochs=adapt_generator_epochs,
            backbone_mode=backbone_mode,
            side_fields=side_fields,
            draws=draws,
        )
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
        return self._decoded(self._side_state(columns), columns)

    def diffusion_loss(self, embedding_MD: Tensor, h_MD: Tensor, rows_M: Tensor) -> Tensor:
        """Return the simplified L_diff, the squared error of the predicted noise, items weighted by their rows."""
        z0_MD = self.encode_embedding(embedding_MD)
        t_M = torch.randint(1, self.bridge.steps + 1, (len(h_MD),))
        noise_MD = torch.randn_like(z0_MD)
        z_MD = self.bridge.noised(z0_MD, self.forward_dropout(h_MD), t_M, noise_MD)
        error_M = (self.unet(z_MD, self.unet.time_part(t_M)) - noise_MD).square().mean(dim=1)
        return torch.dot(error_M, rows_M) / rows_M.sum()

    def _generator_parameters(self) -> list[nn.Parameter]:
        modules = [self.side, self.encode_side, self.encode_embedding, self.decode]
        return [p for module in [*modules, *([self.unet] if self.unet_trains else [])] for p in module.parameters()]

    def _losses(self, prepared: PreparedBatch) -> dict[str, Tensor]:
        h_MD = self._side_state(prepared.columns)
        generated_BD = gather_rows(self._decoded(h_MD, prepared.columns), prepared.row_B)
        logits_B = self.backbone.interact(prepared.values.with_item(generated_BD))
        losses = {"ctr_loss": F.binary_cross_entropy_with_logits(logits_B, prepared.batch.label_B)}
        if self.reverse != "none":
            loss = self.diffusion_loss(prepared.embedding_MD, h_MD, prepared.rows_M)
            losses["weighted_diffusion_loss"] = self.rho * loss
        return losses

    def _side_state(self, columns: dict[str, Tensor]) -> Tensor:
        h_MD: Tensor = self.encode_side(self.side(columns))
        return h_MD

    def _decoded(self, h_MD: Tensor, columns: dict[str, Tensor]) -> Tensor:
        steps = {"full": self.sub_sequence, "one_step": self.sub_sequence[:1], "none": ()}[self.reverse]
        time_parts = dict(zip(steps, self.unet.time_part(torch.tensor(steps, dtype=torch.long)), strict=True))
        z0_MD = self.bridge.reverse(h_MD, lambda z_MD, t: self.unet(z_MD, time_parts[t]), steps, self.sigma)
        embedding_MD: Tensor = self.decode(self._with_count(z0_MD, columns))
        return embedding_MD
