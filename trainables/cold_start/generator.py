"""What CVAR and CSDM share: a generator of item-ID embeddings that is trained through the frozen backbone.

Legend: B rows of a batch, M items, D embedding size.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainables.base import (
    CtrBatch,
    CtrModel,
    ItemTable,
    Log,
    PositiveFloat,
    PositiveInt,
    RowSource,
    no_log,
)
from trainables.cold_start.side_information import PreparedItems, SideInformation, chosen_side_fields, item_id_name
from trainables.cold_start.training import TrainedColdStartMethod, training_only
from trainables.lookups import Lookup, looked_up, row_lookup
from trainables.workers import backward

COUNT = "count"
"""The field that says how often an item occurs; the decoder gets it beside the latent state."""

BackboneMode = Literal["training", "evaluation"]


@dataclass(frozen=True)
class PreparedBatch:
    """What all repetitions of a batch share: M are its items, each once, or each row's where a row draws alone.

    `weight_M` is the share of the batch's rows that are an item's.
    """

    label_B: Tensor
    side: PreparedItems
    columns: dict[str, Tensor]
    embedding_MD: Tensor
    weight_M: Tensor
    item_B: Lookup
    item_to_logits: Callable[[Tensor], Tensor]

    def ctr_loss(self, embedding_MD: Tensor) -> Tensor:
        """Return the binary cross-entropy of the frozen backbone with these embeddings for the items."""
        return self.ctr_loss_of_rows(looked_up(embedding_MD, self.item_B))

    def ctr_loss_of_rows(self, embedding_BD: Tensor) -> Tensor:
        """Return the binary cross-entropy of the frozen backbone with these embeddings for the rows' items."""
        return F.binary_cross_entropy_with_logits(self.item_to_logits(embedding_BD), self.label_B)


class EmbeddingGenerator(TrainedColdStartMethod):
    """A method that generates item-ID embeddings from side information and learns to by their effect on the CTR loss.

    `fit` trains the generator on the base rows, the backbone being frozen. `adapt` first trains the item-ID
    embeddings on the block, then the generator, and writes new embeddings for all new items.

    Each batch is used `repetitions` times. What the frozen backbone embeds is gathered once a batch; what belongs to
    an item alone is computed once for each distinct item of the batch, or for every row (`draws="row"`).

    For the arguments that are not listed here see `TrainedColdStartMethod`; weight decay and batch size are also the
    generator's.

    Args:
        backbone: the CTR model.
        generator_learning_rate: of the generator.
        repetitions: how often each batch is used.
        fit_epochs: passes over the base rows.
        adapt_generator_epochs: passes over a warm block with the generator.
        backbone_mode: while the generator trains, the frozen backbone is in `training` mode (batch statistics,
            which move the running ones, and dropout: the release) or in `evaluation` mode. While the item-ID
            embeddings train on a warm block, it is in training mode either way.
        side_fields: names of the fields that make up the side information; by default the item ID and every field
            with an item's role.
        draws: whether noise and dropout are drawn once an `item` of the batch or once a `row`.
    """

    def __init__(
        self,
        backbone: CtrModel,
        *,
        generator_learning_rate: PositiveFloat = 1e-3,
        repetitions: PositiveInt = 10,
        fit_epochs: PositiveInt = 1,
        adapt_generator_epochs: PositiveInt = 2,
        backbone_mode: BackboneMode = "training",
        side_fields: tuple[str, ...] | None = None,
        draws: Literal["item", "row"] = "item",
        **shared: Any,
    ) -> None:
        super().__init__(backbone, **shared)
        self.generator_learning_rate = generator_learning_rate
        self.repetitions, self.fit_epochs, self.adapt_generator_epochs = repetitions, fit_epochs, adapt_generator_epochs
        self.backbone_mode, self.draws = backbone_mode, draws
        self.item_name = item_id_name(backbone)
        self.has_count = any(field.name == COUNT and field.role == "item" for field in backbone.fields)
        self.side = SideInformation(
            chosen_side_fields(backbone.fields, side_fields), int(backbone.item_embedding.shape[1])
        )

    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Train the generator on the base rows, the backbone being frozen."""
        self._train_generator("fit", base, self.fit_epochs, seed=seed, log=log)

    @abstractmethod
    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor:
        """Return warmed-up embeddings [M, D]."""

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        """Train the item-ID embeddings, then the generator on the block, and rewrite all new items' embeddings."""
        self.train_item_embeddings(block, seed=seed, log=log)
        self._train_generator("adapt_generator", block, self.adapt_generator_epochs, seed=seed, log=log)
        with torch.no_grad():
            self.backbone.item_embedding[new_item_M] = self.generate(block.items, new_item_M)

    @abstractmethod
    def _generator_parameters(self) -> list[nn.Parameter]:
        """Return what is trained."""

    @abstractmethod
    def _losses(self, prepared: PreparedBatch) -> dict[str, Tensor]:
        """Return the losses, to be added, of a batch."""

    def _gradients(self, prepared: PreparedBatch) -> dict[str, Tensor]:
        """Give the trained parameters the gradients of a batch's losses, and return these."""
        losses = self._losses(prepared)
        backward(torch.stack(list(losses.values())).sum(), len(prepared.label_B), self._generator_parameters())
        return {name: loss.detach() for name, loss in losses.items()}

    def _train_generator(self, stage: str, rows: RowSource, epochs: int, *, seed: int, log: Log) -> None:
        self.train()
        self.backbone.train(self.backbone_mode == "training")
        parameters, rate = self._generator_parameters(), self.generator_learning_rate
        optimizer = self.optimizer(parameters, rate)
        last: tuple[CtrBatch, PreparedBatch] | None = None

        def step(batch: CtrBatch) -> dict[str, Tensor]:
            nonlocal last
            if last is None or last[0] is not batch:
                last = batch, self._prepare(rows.items, batch)
            for parameter in parameters:
                parameter.grad = None
            losses = self._gradients(last[1])
            optimizer.step()
            return losses

        with training_only(self, parameters):
            optimizers, repetitions = [optimizer], self.repetitions
            self.train_on(
                stage, rows, step, rate, epochs, optimizers=optimizers, repetitions=repetitions, seed=seed, log=log
            )

    def _prepare(self, items: ItemTable, batch: CtrBatch) -> PreparedBatch:
        item_B = batch.columns[self.item_name].long()
        if self.draws == "item":
            item_M, row_B, rows_M = torch.unique(item_B, return_inverse=True, return_counts=True)
        else:
            item_M, row_B, rows_M = item_B, torch.arange(len(item_B)), torch.ones_like(item_B)
        columns = self._columns(items, item_M)
        with torch.no_grad():
            return PreparedBatch(
                label_B=batch.label_B,
                side=self.side.prepare(columns),
                columns=columns,
                embedding_MD=self.backbone.item_embedding.index_select(0, item_M),
                weight_M=rows_M / len(item_B),
                item_B=row_lookup(row_B, len(item_M)),
                item_to_logits=self.backbone.item_to_logits(self.backbone.embed(batch)),
            )

    def _columns(self, items: ItemTable, item_M: Tensor) -> dict[str, Tensor]:
        return {**items.select(item_M), self.item_name: item_M}

    def _with_count(self, latent_MD: Tensor, columns: dict[str, Tensor]) -> Tensor:
        count = [columns[COUNT].unsqueeze(1)] if self.has_count else []
        return torch.cat([latent_MD, *count], dim=1)
