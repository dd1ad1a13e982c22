"""The ordinary method of the task `ctr`: a backbone trained on labelled rows.

Legend: B rows of a batch.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainables.base import (
    BatchSize,
    CtrBatch,
    CtrMethod,
    CtrModel,
    Log,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    RowSource,
    Validate,
    no_log,
)
from trainables.checkpoints import Checkpoints, Loop, Place
from trainables.loss_curve import LossCurve
from trainables.rowwise_adam import EmbeddingUpdates, adam_of
from trainables.workers import backward


class Supervised(CtrMethod):
    """Minimize binary cross-entropy with Adam; keep the epoch of the best validation AUC.

    Args:
        backbone: the CTR model.
        learning_rate: of Adam.
        weight_decay: an L2 gradient on every parameter.
        batch_size: rows of a batch, two at least; a last batch of a single row is left out, BatchNorm having no
            variance of it.
        epochs: at most so many passes over the rows.
        patience: stop after so many epochs without a better validation AUC; 0 trains all epochs and keeps the last.
        embedding_updates: whether a step updates `all_rows` of the embedding tables, weight decay shrinking those that
            are not in its batch, or for tables of millions of rows the `touched_rows` alone, see `RowwiseAdam`.
    """

    def __init__(
        self,
        backbone: CtrModel,
        *,
        learning_rate: PositiveFloat = 1e-3,
        weight_decay: NonNegativeFloat = 1e-6,
        batch_size: BatchSize = 2048,
        epochs: PositiveInt = 20,
        patience: NonNegativeInt = 2,
        embedding_updates: EmbeddingUpdates = "all_rows",
    ) -> None:
        super().__init__(backbone)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.batch_size = batch_size
        self.epochs = epochs
        self.patience = patience
        self.embedding_updates = embedding_updates

    def fit(self, rows: RowSource, validate: Validate, *, seed: int, log: Log = no_log) -> int:
        """Train, and return the number of epochs that the kept parameters had.

        Raises:
            ValueError: there is no row to train on.
            FloatingPointError: a loss is not finite.
        """
        optimizer = adam(self.backbone, self.learning_rate, self.weight_decay, self.embedding_updates)
        curve = LossCurve()
        loop = Loop(self, [optimizer], curve)

        def scored() -> float:
            score = validate()
            log("validation/auc", score, curve.step)
            return score

        best, kept = -1.0, 0
        for epoch in range(self.epochs):
            self.train()
            train_epoch(
                "train", rows, self.losses, optimizer, curve, self.batch_size,
                seed=seed + epoch, log=log, checkpoints=self.checkpoints, loop=loop,
            )  # fmt: skip
            if not self.patience:
                kept = epoch + 1
                continue
            score = self.checkpoints.once(f"validation/{epoch}", scored)
            if score > best:
                best, kept = score, epoch + 1
                self.checkpoints.keep("best", self.backbone.state_dict())
            elif epoch + 1 - kept >= self.patience:
                break
        state = self.checkpoints.kept("best")
        if state is not None:
            self.backbone.load_state_dict(state)
        return kept

    def losses(self, batch: CtrBatch) -> dict[str, Tensor]:
        """Return the binary cross-entropy of a batch."""
        return {"loss": F.binary_cross_entropy_with_logits(self(batch), batch.label_B)}


def train_epoch(
    stage: str,
    rows: RowSource,
    losses: Callable[[CtrBatch], dict[str, Tensor]],
    optimizer: torch.optim.Optimizer,
    curve: LossCurve,
    batch_size: int,
    *,
    seed: int,
    log: Log,
    checkpoints: Checkpoints | None = None,
    loop: Loop | None = None,
) -> None:
    """Minimize the sum of a batch's losses over all rows once, shuffled by the seed, and log the curves.

    With `checkpoints`, for which `loop` says what changes, an interrupted epoch goes on where it was.

    Raises:
        ValueError: there is no row to train on.
        FloatingPointError: a loss is not finite.
    """
    check_rows(stage, rows)
    rate = float(optimizer.param_groups[0]["lr"])
    curve.start()
    checkpoints = checkpoints or Checkpoints()
    place = checkpoints.enter(loop) if loop is not None else Place()
    if place is None:
        return
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    batches = rows.batches(batch_size, shuffle_seed=seed, skip=place.batch)
    for number, batch in enumerate(batches, start=place.batch + 1):
        if len(batch) == 1:
            continue
        found = losses(batch)
        optimizer.zero_grad()
        backward(torch.stack(list(found.values())).sum(), len(batch), parameters)
        optimizer.step()
        if curve.add(stage, {name: loss.detach() for name, loss in found.items()}, len(batch)):
            curve.write(stage, log, rate)
        checkpoints.passed(Place(0, number), len(batch))
    checkpoints.leave()
    curve.write(stage, log, rate)


def check_rows(stage: str, rows: RowSource) -> None:
    """Check that there are rows to train on.

    Raises:
        ValueError: there are fewer than two, of which BatchNorm has no variance.
    """
    if len(rows) < 2:
        found = "a single row" if len(rows) else "no rows"
        raise ValueError(f"{stage}: {found} to train on, two at least are needed; raise the share of labelled rows")


def adam(
    module: nn.Module, learning_rate: float, weight_decay: float, embedding_updates: EmbeddingUpdates = "all_rows"
) -> torch.optim.Optimizer:
    """Return a fresh Adam of all parameters of a module."""
    return adam_of(
        module,
        module.parameters(),
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        embedding_updates=embedding_updates,
    )
