"""Meta-Embedding: learn to generate item-ID embeddings that learn fast (Pan et al., SIGIR 2019).

Legend: B rows of a batch, M distinct items of it, S size of the side information, D embedding size.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from trainables.base import (
    CtrBatch,
    CtrModel,
    ItemTable,
    Log,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Probability,
    RowSource,
    no_log,
)
from trainables.cold_start.generator import BackboneMode
from trainables.cold_start.side_information import (
    DescribedItems,
    Start,
    Variant,
    described,
    item_id_name,
    item_side_information,
    two_layers,
)
from trainables.cold_start.training import TrainedColdStartMethod, rows_of_all_workers
from trainables.layers import gather_rows
from trainables.workers import gathered, summed


@dataclass(frozen=True)
class _Pair(CtrBatch):
    """A batch of the cold quarter, and as many rows of the same items in the warm one."""

    warm: CtrBatch


class _PairedRows:
    """Two quarters of one order, batch beside batch: a `RowSource` of the cold one's rows."""

    def __init__(self, cold: RowSource, warm: RowSource) -> None:
        self._cold, self._warm = cold, warm

    @property
    def items(self) -> ItemTable:
        """The items as the quarters may know them."""
        return self._cold.items

    def __len__(self) -> int:
        return len(self._cold)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Iterator[CtrBatch]:
        """Yield all rows of the cold quarter with their partners; see `RowSource`."""
        cold, warm = (
            rows.batches(batch_size, shuffle_seed=shuffle_seed, skip=skip) for rows in (self._cold, self._warm)
        )
        return (_Pair(one.columns, one.label_B, other) for one, other in zip(cold, warm, strict=True))

    def distinct_items(self) -> Tensor:
        """Return the ids of the items that occur here, ascending, int64 [M]."""
        return self._cold.distinct_items()

    def item_quarters(self, seed: int) -> tuple[RowSource, RowSource, RowSource, RowSource]:
        """Return the quarters of the cold quarter."""
        return self._cold.item_quarters(seed)


class MetaEmbedding(TrainedColdStartMethod):
    """Generate item-ID embeddings from the backbone's embeddings of side information, trained over two batches.

    Each hot item plays a new one (Pan et al., Algorithm 1): the loss l_a of its generated embedding on rows of one
    quarter (cold), one step of gradient descent on the embedding, and the loss l_b of the moved embedding on as many
    rows of the next quarter (warm); the generator minimizes α l_a + (1 − α) l_b, through the step. Quarters are of each
    item's rows in time. Epoch k, counted from 0, takes quarters k and k + 1 modulo 4: a single epoch uses the first two
    alone, and a fourth one pairs the last quarter with the first, whose rows are earlier, as the release does. The
    backbone is frozen. On a warm block the item-ID embeddings alone are trained. For the arguments that are not listed
    here see `TrainedColdStartMethod`.

    Args:
        backbone: the CTR model.
        cold_loss_weight: α; the paper takes 0.1.
        inner_learning_rate: of the step on the embedding.
        hidden_size: of the generator, two linear layers with ReLU between.
        generator_learning_rate: of the generator.
        fit_epochs: passes over a pair of quarters.
        backbone_mode: while the generator trains, the frozen backbone is in `training` mode (batch statistics,
            which move the running ones, and dropout: the release) or in `evaluation` mode. While the item-ID
            embeddings train on a warm block, it is in training mode either way.
        side_fields: names of the fields that describe an item, by default all; its ID is one in variant `released`
            alone.
        start: of the generator, for which the paper gives none. `default`: uniform in ±0.01, as the released programs'
            other generators; `released`: as torch draws it, the release leaving its `init_metaE` uncalled.
        variant: `paper`: l_a is the mean over an item's rows, and the generator sees what describes the item, not its
            ID; `released`: l_a is the mean over the batch, each row moves an embedding of its own by its own gradient
            (so a step is thousands of times smaller), and the generator sees the item-ID embedding too.
    """

    def __init__(
        self,
        backbone: CtrModel,
        *,
        cold_loss_weight: Probability = 0.1,
        inner_learning_rate: NonNegativeFloat = 1e-3,
        hidden_size: PositiveInt = 16,
        generator_learning_rate: PositiveFloat = 1e-3,
        fit_epochs: PositiveInt = 1,
        backbone_mode: BackboneMode = "training",
        side_fields: tuple[str, ...] | None = None,
        start: Start = "default",
        variant: Variant = "paper",
        **shared: Any,
    ) -> None:
        super().__init__(backbone, **shared)
        self.cold_loss_weight, self.inner_learning_rate, self.variant = cold_loss_weight, inner_learning_rate, variant
        self.generator_learning_rate, self.fit_epochs = generator_learning_rate, fit_epochs
        self.backbone_mode = backbone_mode
        self.item_name = item_id_name(backbone)
        self.side = item_side_information(backbone, variant, side_fields)
        size = int(backbone.item_embedding.shape[1])
        self.generator = two_layers(self.side.size, hidden_size, size, small=start == "default")

    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Train the generator on pairs of quarters of the hot items' rows."""
        side = DescribedItems(self.backbone, self.side, base.items, base.distinct_items())
        parameters, rate = list(self.generator.parameters()), self.generator_learning_rate
        self.backbone.train(self.backbone_mode == "training")
        optimizer = self.optimizer(parameters, rate)
        for epoch in range(self.fit_epochs):
            quarters = base.item_quarters(seed + epoch)
            pairs = _PairedRows(quarters[epoch % 4], quarters[(epoch + 1) % 4])

            def losses(batch: CtrBatch) -> dict[str, Tensor]:
                assert isinstance(batch, _Pair)
                return self._losses(side, batch, batch.warm)

            self.minimize("fit", parameters, losses, pairs, rate, 1, optimizer=optimizer, seed=None, log=log)

    @torch.no_grad()
    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor:
        """Return embeddings [M, D] generated from side information."""
        embedding_MD: Tensor = self.generator(described(self.backbone, self.side, items, item_M))
        return embedding_MD

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        """Train the item-ID embeddings on the block."""
        self.train_item_embeddings(block, seed=seed, log=log)

    def _losses(self, side: DescribedItems, cold: CtrBatch, warm: CtrBatch) -> dict[str, Tensor]:
        """Return α l_a and (1 − α) l_b; row k of both batches is of the same item."""
        item_M, row_B, rows_M = _items_of_all_workers(cold.columns[self.item_name].long())
        generated_BD = gather_rows(self.generator(side.of(item_M)), row_B)
        cold_loss_B = self._loss(cold, generated_BD)
        if self.variant == "paper":
            share_B = 1 / rows_M[row_B]
        else:
            share_B = torch.full_like(cold_loss_B, 1 / rows_of_all_workers(len(cold)))
        (gradient_BD,) = torch.autograd.grad(torch.dot(cold_loss_B, share_B), generated_BD, create_graph=True)
        if self.variant == "paper":
            of_item_MD = gradient_BD.new_zeros(len(item_M), gradient_BD.shape[1]).index_add(0, row_B, gradient_BD)
            gradient_BD = summed(of_item_MD).index_select(0, row_B)
        warm_loss_B = self._loss(warm, generated_BD - self.inner_learning_rate * gradient_BD)
        return {
            "weighted_cold_loss": self.cold_loss_weight * cold_loss_B.mean(),
            "weighted_warm_loss": (1 - self.cold_loss_weight) * warm_loss_B.mean(),
        }

    def _loss(self, batch: CtrBatch, item_BD: Tensor) -> Tensor:
        with torch.no_grad():
            values = self.backbone.embed(batch)
        logits_B = self.backbone.interact(values.with_item(item_BD))
        return F.binary_cross_entropy_with_logits(logits_B, batch.label_B, reduction="none")


def _items_of_all_workers(item_B: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the distinct items [M] of all workers' rows, each own row's place among them [B], and their rows [M]."""
    item_M = gathered(item_B).unique()
    row_B = torch.searchsorted(item_M, item_B)
    return item_M, row_B, summed(torch.bincount(row_B, minlength=len(item_M)))
