"""Small methods for the tests of the harness: one that learns in a moment, and some that misbehave.

Legend: B histories or rows of a batch, I items, M new items, D embedding size.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from trainables.base import (
    ColdStartMethod,
    CtrBatch,
    CtrModel,
    DropoutRate,
    Field,
    FieldValues,
    ItemTable,
    Log,
    NextItemModel,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    RowSource,
    SequenceBatch,
    SequenceSource,
    field_named,
    no_log,
)
from trainables.cold_start.bare import BareBackbone
from trainables.workers import rank, workers

SPARE = "DIFFBENCH_TEST_SPARE"
"""While this environment variable is set, `KillsItself` does not."""


class LastItem(NextItemModel):
    """Scores the next item by the last one alone."""

    def __init__(
        self,
        items: int,
        history_length: int,
        *,
        learning_rate: PositiveFloat = 0.1,
        size: PositiveInt = 4,
        dropout: DropoutRate = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(items + 1, size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(size, items, bias=bias)
        self.learning_rate = learning_rate

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)

    def loss(self, batch: SequenceBatch) -> Tensor:
        return nn.functional.cross_entropy(self.rank_scores(batch), batch.target_B.long() - 1)

    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        last_B = batch.history_BL.long().gather(1, batch.length_B.long().unsqueeze(1) - 1).squeeze(1)
        scores_BI: Tensor = self.output(self.dropout(self.embedding(last_B)))
        return scores_BI


class Raises(LastItem):
    def loss(self, batch: SequenceBatch) -> Tensor:
        raise RuntimeError("the first line\nand the second")


class Exits(LastItem):
    def loss(self, batch: SequenceBatch) -> Tensor:
        sys.exit("enough")


class NanLoss(LastItem):
    def loss(self, batch: SequenceBatch) -> Tensor:
        return super().loss(batch) * torch.nan


class NanScores(LastItem):
    def rank_scores(self, batch: SequenceBatch) -> Tensor:
        scores_BI = super().rank_scores(batch)
        return scores_BI if self.training else scores_BI * torch.nan


class KillsItself(LastItem):
    def loss(self, batch: SequenceBatch) -> Tensor:
        if SPARE not in os.environ:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(batch)


class IsToldToLeave(LastItem):
    """Is sent SIGTERM, as by a cluster that takes a node away; from the second time on it learns."""

    def __init__(self, items: int, history_length: int, *, folder: str) -> None:
        super().__init__(items, history_length)
        self.told = Path(folder) / "told"

    def prepare(self, train: SequenceSource) -> None:
        if not self.told.exists():
            self.told.touch()
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(5.0)


class Sleeps(LastItem):
    def __init__(self, items: int, history_length: int, *, seconds: NonNegativeFloat = 1.0) -> None:
        super().__init__(items, history_length)
        self.seconds = seconds

    def prepare(self, train: SequenceSource) -> None:
        time.sleep(self.seconds)


class Computes(LastItem):
    """Keeps one core busy for this much CPU time."""

    def __init__(self, items: int, history_length: int, *, seconds: NonNegativeFloat = 1.0) -> None:
        super().__init__(items, history_length)
        self.seconds = seconds

    def prepare(self, train: SequenceSource) -> None:
        factor, end = torch.ones(64, 64) / 64, time.process_time() + self.seconds
        while time.process_time() < end:
            factor = factor @ factor


class ReadsTestData(LastItem):
    """Looks at the test split of the prepared dataset in this folder while a search trains it."""

    def __init__(self, items: int, history_length: int, *, folder: str) -> None:
        super().__init__(items, history_length)
        self.folder = folder

    def prepare(self, train: SequenceSource) -> None:
        from harness.datasets.prepared import open_prepared
        from harness.feed import open_sequences

        open_sequences(open_prepared(Path(self.folder)), "test", "search")


class LacksScores(NextItemModel):
    """Has all members of its interface but `rank_scores` and `optimizer`."""

    def __init__(self, items: int, history_length: int) -> None:
        super().__init__()

    def loss(self, batch: SequenceBatch) -> Tensor:
        return torch.zeros(())


class ItemFactors(CtrModel):
    """Logits from the item-ID embedding alone."""

    def __init__(self, fields: tuple[Field, ...], *, size: PositiveInt = 4, dropout: DropoutRate = 0.0) -> None:
        super().__init__()
        self.fields = fields
        self.items = nn.Embedding(field_named(fields, "item_id").size, size)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(size, 1)

    def embed(self, batch: CtrBatch) -> FieldValues:
        item_BD = self.items(batch.columns["item_id"].long())
        return FieldValues(item_BD.unsqueeze(1), torch.empty(len(batch), 0), 0)

    def interact(self, values: FieldValues) -> Tensor:
        logits_B: Tensor = self.output(self.dropout(values.embedded_BFD[:, 0])).squeeze(1)
        return logits_B

    @property
    def item_embedding(self) -> nn.Parameter:
        weight: nn.Parameter = self.items.weight  # type: ignore[assignment]
        return weight


class Plain(ColdStartMethod):
    """Trains the backbone the ordinary way, and on each block once; nothing is generated."""

    def __init__(
        self, backbone: CtrModel, *, learning_rate: PositiveFloat = 0.01, epochs: PositiveInt = 1, new: float = 0.0
    ) -> None:
        super().__init__(backbone)
        self.learning_rate, self.epochs, self.new = learning_rate, epochs, new

    def pretrain(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        for epoch in range(self.epochs):
            self._train(base, seed + epoch)

    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """There is nothing to add."""

    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor | None:
        return torch.full((len(item_M), self.backbone.item_embedding.shape[1]), self.new)

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        self._train(block, seed)

    def _train(self, rows: RowSource, seed: int) -> None:
        self.backbone.train()
        optimizer = torch.optim.Adam(self.backbone.parameters(), lr=self.learning_rate)
        for batch in rows.batches(256, shuffle_seed=seed):
            optimizer.zero_grad()
            loss = nn.functional.binary_cross_entropy_with_logits(self.backbone(batch), batch.label_B)
            loss.backward()
            optimizer.step()


def _full(**keys: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), tempfile.gettempdir())


class KilledAt(BareBackbone):
    """Trains as `BareBackbone` does; a file in its folder names an optimizer step at which a worker is killed, once.

    Of several workers, they are killed by turns. Where the file names a folder, the checkpoints of the killed one that
    are in it are cut first. Where it says `full`, no worker is killed, but there is no room for checkpoints from then.
    """

    def __init__(self, backbone: CtrModel, *, folder: str, **shared: Any) -> None:
        super().__init__(backbone, **shared)
        self.folder = Path(folder)

    def ctr_loss(self, batch: CtrBatch) -> dict[str, Tensor]:
        step = self.curve.step
        order = self.folder / str(step)
        if step % workers() == rank() and order.exists():
            cut = order.read_text()
            order.unlink()
            if cut == "full":
                tempfile.TemporaryDirectory = _full  # type: ignore[assignment, misc]
                return super().ctr_loss(batch)
            if cut:
                self._cut(Path(cut))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().ctr_loss(batch)

    def _cut(self, folder: Path) -> None:
        paths = list(folder.rglob(f"worker-{rank()}.pt"))
        assert paths, f"no checkpoints in {folder}"
        for path in paths:
            os.truncate(path, path.stat().st_size // 2)
