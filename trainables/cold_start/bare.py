"""A backbone without any cold-start method: the rows `DeepFM`, `Wide & Deep`, … of CSDM's tables."""

from __future__ import annotations

from torch import Tensor

from trainables.base import ItemTable, Log, RowSource, no_log
from trainables.cold_start.training import TrainedColdStartMethod


class BareBackbone(TrainedColdStartMethod):
    """Pretrain the backbone; on each warm block train the item-ID embeddings alone.

    New items start from their initial embeddings. For the arguments see `TrainedColdStartMethod`.
    """

    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Do nothing: there is nothing beside the backbone."""

    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor | None:
        """Return None: new items keep the embeddings they have."""
        return None

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        """Train the item-ID embeddings on the block."""
        self.train_item_embeddings(block, seed=seed, log=log)
