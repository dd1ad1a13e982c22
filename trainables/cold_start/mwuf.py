"""MWUF: warm up an item's embedding by networks that scale and shift it (Zhu et al., SIGIR 2021).

Legend: B rows of a batch, M items, S size of the side information, D embedding size, I items.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

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
from trainables.cold_start.generator import BackboneMode
from trainables.cold_start.side_information import (
    BackboneFields,
    DescribedItems,
    Variant,
    described,
    item_id_name,
    item_side_information,
    two_layers,
    user_id_field,
)
from trainables.cold_start.training import TrainedColdStartMethod, training_only
from trainables.layers import gather_rows
from trainables.workers import backward, summed

ROWS_AT_ONCE = 65536
"""Rows of a batch while users' embeddings are averaged, where nothing is trained."""


class MWUF(TrainedColdStartMethod):
    """Turn cold item-ID embeddings into warm ones by meta scaling and shifting networks.

    Cold embeddings are a second table, which starts at the hot items' mean embedding (the common initial embedding).
    The warm embedding of an item is scale ⊙ cold + shift, the scale computed from the item's side information, the
    shift from the mean embedding of the users who met it. Each batch of the base rows is used twice, the backbone being
    frozen: the loss with cold embeddings trains the second table, then the loss with warm ones trains the two networks.
    New items get warm embeddings before the cold evaluation; on a warm block the item-ID embeddings alone are trained.

    Users are those of the base rows. An item that nobody has met, as all new items before the cold evaluation, takes
    the mean over all base rows, the shift of an average audience. For the arguments that are not listed here see
    `TrainedColdStartMethod`.

    Args:
        backbone: the CTR model; its fields have one with the role `user_id`.
        hidden_size: of both networks, two linear layers with ReLU between.
        generator_learning_rate: of the two networks and of the second table.
        fit_epochs: passes over the base rows.
        backbone_mode: while the networks train, the frozen backbone is in `training` mode (batch statistics, which
            move the running ones, and dropout: the release) or in `evaluation` mode. While the item-ID embeddings
            train on a warm block, it is in training mode either way.
        side_fields: names of the fields that describe an item, by default all; its ID is one in variant `released`
            alone.
        variant: `paper`; or `released`, which takes the item j's users to be the users with an item's ID whose item has
            j's ID (users and items swapped when it averages) and zeros for who has none, the item-ID embedding as part
            of the side information, the mean of the whole table, new items included, and weight decay on the second
            table, which shrinks the rows of new items.
    """

    row_tables: ClassVar[tuple[str, ...]] = ("cold_ID",)

    def __init__(
        self,
        backbone: CtrModel,
        *,
        hidden_size: PositiveInt = 16,
        generator_learning_rate: PositiveFloat = 1e-3,
        fit_epochs: PositiveInt = 1,
        backbone_mode: BackboneMode = "training",
        side_fields: tuple[str, ...] | None = None,
        variant: Variant = "paper",
        **shared: Any,
    ) -> None:
        super().__init__(backbone, **shared)
        self.generator_learning_rate, self.fit_epochs = generator_learning_rate, fit_epochs
        self.backbone_mode, self.variant = backbone_mode, variant
        self.item_name, self.user = item_id_name(backbone), user_id_field(backbone, "MWUF")
        self.users = BackboneFields(backbone, "user_id")
        self.side = item_side_information(backbone, variant, side_fields)
        items, size = backbone.item_embedding.shape
        if variant == "released" and items > self.user.size:
            raise ValueError(
                f"MWUF: variant released reads item IDs as user IDs, and there are {items:,} items but"
                f" {self.user.size:,} users; use variant paper"
            )
        self.cold_ID = nn.Parameter(torch.zeros(items, size))
        self.register_buffer("users_ID", torch.zeros(items, size))
        self.scale = two_layers(self.side.size, hidden_size, size)
        self.shift = two_layers(size, hidden_size, size)

    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Train the second table and the two networks on the base rows, each batch by its own two steps."""
        rate = self.generator_learning_rate
        self._start(base)
        side = DescribedItems(self.backbone, self.side, base.items, base.distinct_items())
        networks = [*self.scale.parameters(), *self.shift.parameters()]
        decay = self.weight_decay if self.variant == "released" else 0.0
        cold_optimizer = self.optimizer([self.cold_ID], rate, decay)
        warm_optimizer = self.optimizer(networks, rate)

        def step(batch: CtrBatch) -> dict[str, Tensor]:
            item_B = batch.columns[self.item_name].long()
            with torch.no_grad():
                values = self.backbone.embed(batch)

            def descend(item_BD: Tensor, optimizer: torch.optim.Optimizer) -> Tensor:
                logits_B = self.backbone.interact(values.with_item(item_BD))
                loss = F.binary_cross_entropy_with_logits(logits_B, batch.label_B)
                optimizer.zero_grad()
                backward(loss, len(batch), optimizer.param_groups[0]["params"])
                optimizer.step()
                return loss.detach()

            cold_loss = descend(gather_rows(self.cold_ID, item_B), cold_optimizer)
            item_M, row_B = torch.unique(item_B, return_inverse=True)
            warm_BD = gather_rows(self._warmed(item_M, side.of(item_M)), row_B)
            return {"cold_loss": cold_loss, "warm_loss": descend(warm_BD, warm_optimizer)}

        self.backbone.train(self.backbone_mode == "training")
        with training_only(self, [self.cold_ID, *networks]):
            optimizers = [cold_optimizer, warm_optimizer]
            self.train_on("fit", base, step, rate, self.fit_epochs, optimizers=optimizers, seed=seed, log=log)

    @torch.no_grad()
    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor:
        """Return warm embeddings [M, D]."""
        return self._warmed(item_M, described(self.backbone, self.side, items, item_M))

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        """Train the item-ID embeddings on the block."""
        self.train_item_embeddings(block, seed=seed, log=log)

    def _warmed(self, item_M: Tensor, side_MS: Tensor) -> Tensor:
        cold_MD = self.cold_ID.detach().index_select(0, item_M)
        users_MD = self.get_buffer("users_ID").index_select(0, item_M)
        warm_MD: Tensor = self.scale(side_MS) * cold_MD + self.shift(users_MD)
        return warm_MD

    @torch.no_grad()
    def _start(self, base: RowSource) -> None:
        """Set the cold embeddings to the mean embedding, and find the mean embedding of each item's users."""
        embedding_ID = self.backbone.item_embedding
        known_MD = embedding_ID[base.distinct_items()] if self.variant == "paper" else embedding_ID
        self.cold_ID.copy_(known_MD.mean(dim=0))
        sum_ID, rows_I = torch.zeros_like(embedding_ID), torch.zeros(len(embedding_ID))
        for item_B, user_BD in self._meetings(base):
            sum_ID.index_add_(0, item_B, user_BD)
            rows_I.index_add_(0, item_B, torch.ones(len(item_B)))
        sum_ID, rows_I = summed(sum_ID), summed(rows_I)
        audience_D = sum_ID.sum(dim=0) / rows_I.sum().clamp(min=1)
        mean_ID = sum_ID.div_(rows_I.clamp(min=1).unsqueeze(1))
        if self.variant == "paper":
            mean_ID[rows_I == 0] = audience_D
        self.get_buffer("users_ID").copy_(mean_ID)

    def _meetings(self, base: RowSource) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield items [B] and the embeddings [B, D] of the users who met them."""
        for batch in base.batches(ROWS_AT_ONCE):
            if self.variant == "released":
                swapped = {self.user.name: batch.columns[self.item_name], self.item_name: batch.columns[self.user.name]}
                within_B = batch.columns[self.user.name] < len(self.cold_ID)
                columns = {name: column[within_B] for name, column in {**batch.columns, **swapped}.items()}
                batch = CtrBatch(columns, batch.label_B[within_B])
            yield batch.columns[self.item_name].long(), self.users(self.backbone.embed(batch))
