"""A backbone without any cold-start method: the rows `DeepFM`, `Wide & Deep`, … of CSDM's tables."""

from __future__ import annotations

from torch import Tensor

from trainables.base import CtrModel, ItemTable, Log, NonNegativeFloat, PositiveFloat, PositiveInt, RowSource, no_log
from trainables.cold_start.training import TrainedColdStartMethod


class BareBackbone(TrainedColdStartMethod):
    """Pretrain the backbone; on each warm block train the item-ID embeddings alone.

    The defaults are CSDM's (§Experimental settings), with one epoch and weight decay 1e-6 as in the release.
    New items start from their initial embeddings. For the arguments see `TrainedColdStartMethod`.
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

    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Do nothing: there is nothing beside the backbone."""

    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor | None:
        """Return None: new items keep the embeddings they have."""
        return None

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        """Train the item-ID embeddings on the block."""
        self.train_item_embeddings(block, seed=seed, log=log)
