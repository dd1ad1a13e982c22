"""DropoutNet: train a model to do without the item (Volkovs, Yu & Poutanen, NIPS 2017).

Legend: B rows of a batch, M items, D embedding size, I items of the dataset.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from trainables.base import (
    CtrBatch,
    CtrModel,
    ItemTable,
    Log,
    Probability,
    RowSource,
    no_log,
)
from trainables.cold_start.side_information import Variant
from trainables.cold_start.training import TrainedColdStartMethod
from trainables.workers import from_first


class DropoutNet(TrainedColdStartMethod):
    """Pretrain with a stand-in for the item-ID embedding in some batches; on a warm block train the embeddings alone.

    Volkovs et al. drop an item's preference input while training, so that the model learns to use the others, and drop
    it again for new items. In the protocol of CVAR and CSDM the input is a learned embedding, its stand-in is the mean
    embedding, and a whole batch takes it. No gradient goes through the mean. For the arguments that are not listed
    here see `TrainedColdStartMethod`.

    Args:
        backbone: the CTR model.
        drop_probability: that a batch of the pretraining takes the mean embedding.
        variant: `paper`: the mean is the hot items', and new items start from it, as they were trained to be met;
            `released`: the mean is over the whole table, new items included, and new items keep their own initial
            embeddings.
    """

    shares_pretraining: ClassVar[bool] = False

    def __init__(
        self,
        backbone: CtrModel,
        *,
        drop_probability: Probability = 0.1,
        variant: Variant = "paper",
        **shared: Any,
    ) -> None:
        super().__init__(backbone, **shared)
        self.drop_probability, self.variant = drop_probability, variant
        self.register_buffer("mean_D", torch.zeros(backbone.item_embedding.shape[1]))

    def pretrain(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Train the whole backbone on the hot items' rows, some batches without knowing the item."""
        averaged_M = base.distinct_items() if self.variant == "paper" else slice(None)

        def losses(batch: CtrBatch) -> dict[str, Tensor]:
            values = self.backbone.embed(batch)
            dropped = float(torch.rand(())) < self.drop_probability
            if from_first(dropped):  # the whole batch, whichever worker has its rows
                mean_D = self._mean_embedding(averaged_M)
                values = values.with_item(mean_D.expand(len(batch), -1))
            logits_B = self.backbone.interact(values)
            return {"loss": F.binary_cross_entropy_with_logits(logits_B, batch.label_B)}

        self.backbone.train()
        parameters = list(self.backbone.parameters())
        self.minimize("pretrain", parameters, losses, base, self.learning_rate, self.epochs, seed=seed, log=log)

    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Remember the hot items' mean embedding; there is nothing to train."""
        self.get_buffer("mean_D").copy_(self._mean_embedding(base.distinct_items()))

    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor | None:
        """Return the mean embedding for every item [M, D], or None in the released variant."""
        if self.variant == "released":
            return None
        return self.get_buffer("mean_D").repeat(len(item_M), 1)

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        """Train the item-ID embeddings on the block."""
        self.train_item_embeddings(block, seed=seed, log=log)

    def _mean_embedding(self, item_M: Tensor | slice) -> Tensor:
        return self.backbone.item_embedding.detach()[item_M].mean(dim=0)
