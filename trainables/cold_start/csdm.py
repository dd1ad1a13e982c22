"""CSDM: supervised diffusion between an item's ID embedding and its side information (Zhu, Wang & Wu, AAAI 2025).

Legend: B rows of a batch, M items, S size of the concatenated side information, E size of the time embedding,
D embedding size, L positions of a sequence, T diffusion steps.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainables.base import (
    CtrBatch,
    CtrModel,
    DropoutRate,
    Field,
    FieldValues,
    ItemTable,
    Log,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    RowSource,
    field_named,
    no_log,
)
from trainables.cold_start.training import TrainedColdStartMethod, training_only
from trainables.diffusion.bridge import SideInformationBridge
from trainables.diffusion.schedules import csdm_schedule
from trainables.layers import Dropout, FieldSums, gather_rows

COUNT = "count"
"""The field that says how often an item occurs; the decoder gets it beside z̃_0."""


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


class SideInformation(nn.Module):
    """The generator's own, standard-normal embeddings of an item's fields, concatenated with its numbers: [M, S]."""

    def __init__(self, fields: Sequence[Field], embedding_size: int) -> None:
        super().__init__()
        self.sums = FieldSums([field for field in fields if field.kind != "number"], embedding_size)
        self.numbers = [field.name for field in fields if field.kind == "number"]
        self.size = len(self.sums.fields) * embedding_size + len(self.numbers)

    def forward(self, columns: dict[str, Tensor]) -> Tensor:
        """Return the side information [M, S] of these items' columns."""
        embedded_MS = self.sums(columns).flatten(1)
        return torch.cat([embedded_MS, *(columns[name].unsqueeze(1) for name in self.numbers)], dim=1)


@dataclass(frozen=True)
class _PreparedBatch:
    """What all repetitions of a batch share: M are its items, each once, or each row's where a row draws alone."""

    batch: CtrBatch
    values: FieldValues
    columns: dict[str, Tensor]
    embedding_MD: Tensor
    rows_M: Tensor
    row_B: Tensor


class CSDM(TrainedColdStartMethod):
    """Generate item-ID embeddings from side information by a diffusion that the CTR loss supervises (eq. 5–13).

    `fit` is Algorithm 1 on the base rows: the frozen backbone sees generated embeddings, and the loss is
    BCE + ρ · L_diff (eq. 9), with gradients through the whole reverse process. `adapt` first trains the item-ID
    embeddings on the block, then the generator, and writes new embeddings for all new items.

    What belongs to an item alone (side information, reverse process, decoder) is computed once for each distinct
    item of a batch, so that the dropout of these parts is drawn once an item and not once a row; L_diff weighs items
    by their rows, which leaves its expectation as it is. `draws="row"` computes and draws for every row, as the
    release does.

    Everything trains in training mode, and the U-Net's dropout stays active while embeddings are generated.

    Args:
        backbone: the CTR model.
        learning_rate: see `TrainedColdStartMethod`, as for the next five.
        weight_decay: also the generator's.
        epochs: of pretraining.
        batch_size: also the generator's.
        adapt_learning_rate: of the item-ID embeddings on a warm block.
        adapt_epochs: passes over a warm block with the item-ID embeddings.
        rho: weight of L_diff (eq. 9); searched in {0.001, 0.01, 0.1, 1}.
        stride: s of the sub-sequence; searched in {5, 10}.
        steps: T.
        beta: of the schedule (eq. 11).
        sigma: of the reverse steps (eq. 10); 0 is deterministic but for the U-Net's dropout.
        dropout: of h in the forward process (eq. 13).
        unet_dropout: of the U-Net's input.
        unet_hidden: sizes of the U-Net's layers, outer and inner, which the paper does not give.
        time_size: size of the position encoding.
        generator_learning_rate: of the generator.
        repetitions: how often each batch is used (10 on ML-1M, 2 on Taobao).
        fit_epochs: passes over the base rows.
        adapt_generator_epochs: passes over a warm block with the generator.
        backbone_mode: while the generator trains, the frozen backbone is in `training` mode (batch statistics,
            which move the running ones, and dropout: the release) or in `evaluation` mode.
        variant: `paper`, or `released`: the U-Net stays at its initial weights and h is weighted by c_t, not √c_t.
        train_unet: False leaves the U-Net at its initial weights, whatever the variant.
        reverse: `full` goes through the sub-sequence, `one_step` from its first step straight to z̃_0, and `none`
            leaves the diffusion out: z̃_0 = h, without L_diff.
        side_fields: names of the fields that make up the side information; by default the item ID and every field
            with an item's role.
        draws: whether dropout and noise are drawn once an `item` of the batch or once a `row`.
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
        backbone_mode: Literal["training", "evaluation"] = "training",
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
        )
        self.rho, self.sigma, self.reverse, self.draws = rho, sigma, reverse, draws
        self.generator_learning_rate = generator_learning_rate
        self.repetitions, self.fit_epochs, self.adapt_generator_epochs = repetitions, fit_epochs, adapt_generator_epochs
        self.backbone_mode = backbone_mode

        alpha, c = csdm_schedule(steps, beta)
        self.bridge = SideInformationBridge(alpha, c if variant == "released" else c.sqrt())
        self.sub_sequence = self.bridge.sub_sequence(stride)

        size = backbone.item_embedding.shape[1]
        self.item_name = next(field.name for field in backbone.fields if field.role == "item_id")
        self.has_count = any(field.name == COUNT and field.role == "item" for field in backbone.fields)
        self.side = SideInformation(_side_fields(backbone.fields, side_fields), size)
        self.encode_side = nn.Linear(self.side.size, size)
        self.encode_embedding = nn.Linear(size, size)
        self.forward_dropout = Dropout(dropout)
        self.unet = UNet(size, unet_hidden, time_size, steps, unet_dropout)
        self.decode = nn.Linear(size + self.has_count, size)
        self.unet_trains = train_unet and variant == "paper"

    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Train the generator on the base rows, the backbone being frozen."""
        self._train_generator("fit", base, self.fit_epochs, seed=seed, log=log)

    @torch.no_grad()
    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor:
        """Return warmed-up embeddings [M, D]."""
        self.unet.train()
        columns = self._columns(items, item_M)
        return self._decoded(self._side_state(columns), columns)

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        """Train the item-ID embeddings, then the generator on the block, and rewrite all new items' embeddings."""
        self.train_item_embeddings(block, seed=seed, log=log)
        self._train_generator("adapt_generator", block, self.adapt_generator_epochs, seed=seed, log=log)
        with torch.no_grad():
            self.backbone.item_embedding[new_item_M] = self.generate(block.items, new_item_M)

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

    def _train_generator(self, stage: str, rows: RowSource, epochs: int, *, seed: int, log: Log) -> None:
        parameters = self._generator_parameters()
        optimizer = self.optimizer(parameters, self.generator_learning_rate)
        self.train()
        self.backbone.train(self.backbone_mode == "training")
        prepared: _PreparedBatch | None = None

        def step(batch: CtrBatch) -> dict[str, Tensor]:
            nonlocal prepared
            if prepared is None or prepared.batch is not batch:
                prepared = self._prepare(rows.items, batch)
            losses = self._losses(prepared)
            optimizer.zero_grad()
            torch.stack(list(losses.values())).sum().backward()
            optimizer.step()
            return {name: loss.detach() for name, loss in losses.items()}

        with training_only(self, parameters):
            self.train_on(
                stage,
                rows,
                step,
                self.generator_learning_rate,
                epochs,
                repetitions=self.repetitions,
                seed=seed,
                log=log,
            )

    def _prepare(self, items: ItemTable, batch: CtrBatch) -> _PreparedBatch:
        item_B = batch.columns[self.item_name].long()
        if self.draws == "item":
            item_M, row_B, rows_M = torch.unique(item_B, return_inverse=True, return_counts=True)
        else:
            item_M, row_B, rows_M = item_B, torch.arange(len(item_B)), torch.ones_like(item_B)
        with torch.no_grad():
            return _PreparedBatch(
                batch=batch,
                values=self.backbone.embed(batch),
                columns=self._columns(items, item_M),
                embedding_MD=self.backbone.item_embedding.index_select(0, item_M),
                rows_M=rows_M.to(batch.label_B.dtype),
                row_B=row_B,
            )

    def _losses(self, prepared: _PreparedBatch) -> dict[str, Tensor]:
        h_MD = self._side_state(prepared.columns)
        generated_BD = gather_rows(self._decoded(h_MD, prepared.columns), prepared.row_B)
        logits_B = self.backbone.interact(prepared.values.with_item(generated_BD))
        losses = {"ctr_loss": F.binary_cross_entropy_with_logits(logits_B, prepared.batch.label_B)}
        if self.reverse != "none":
            loss = self.diffusion_loss(prepared.embedding_MD, h_MD, prepared.rows_M)
            losses["weighted_diffusion_loss"] = self.rho * loss
        return losses

    def _columns(self, items: ItemTable, item_M: Tensor) -> dict[str, Tensor]:
        return {**items.select(item_M), self.item_name: item_M}

    def _side_state(self, columns: dict[str, Tensor]) -> Tensor:
        h_MD: Tensor = self.encode_side(self.side(columns))
        return h_MD

    def _decoded(self, h_MD: Tensor, columns: dict[str, Tensor]) -> Tensor:
        steps = {"full": self.sub_sequence, "one_step": self.sub_sequence[:1], "none": ()}[self.reverse]
        time_parts = dict(zip(steps, self.unet.time_part(torch.tensor(steps, dtype=torch.long)), strict=True))
        z0_MD = self.bridge.reverse(h_MD, lambda z_MD, t: self.unet(z_MD, time_parts[t]), steps, self.sigma)
        count = [columns[COUNT].unsqueeze(1)] if self.has_count else []
        embedding_MD: Tensor = self.decode(torch.cat([z0_MD, *count], dim=1))
        return embedding_MD


def _side_fields(fields: Sequence[Field], names: tuple[str, ...] | None) -> list[Field]:
    if names is None:
        return [field for field in fields if field.role in ("item_id", "item")]
    known = [field.name for field in fields]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"side_fields: no field {unknown[0]!r}; known: {', '.join(known)}")
    chosen = [field_named(fields, name) for name in names]
    for field in chosen:
        if field.role not in ("item_id", "item"):
            raise ValueError(f"side_fields: {field.name!r} has the role {field.role!r}; name fields of items only")
    return chosen
