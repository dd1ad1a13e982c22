"""What all cold-start methods share: the training loop, pretraining, and training the item-ID embeddings alone.

Legend: B rows of a batch, D embedding size, I items.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn

from trainables.base import (
    BatchSize,
    ColdStartMethod,
    CtrBatch,
    CtrModel,
    Log,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    RowSource,
    no_log,
)
from trainables.checkpoints import Loop, Place
from trainables.loss_curve import LossCurve
from trainables.rowwise_adam import EmbeddingUpdates, adam_of
from trainables.workers import backward, summed, workers


@contextmanager
def training_only(module: nn.Module, parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """Let gradients reach these of the module's parameters and no other, and put all flags back afterwards."""
    chosen = {id(parameter) for parameter in parameters}
    before = [(parameter, parameter.requires_grad) for parameter in module.parameters()]
    for parameter, _ in before:
        parameter.requires_grad_(id(parameter) in chosen)
    try:
        yield
    finally:
        for parameter, required in before:
            parameter.requires_grad_(required)
            parameter.grad = None


def rows_of_all_workers(rows: int) -> int:
    """Return how many rows a batch has at all workers together, `rows` being those of this one."""
    return rows if workers() == 1 else int(summed(torch.tensor(rows)))


class TrainedColdStartMethod(ColdStartMethod, ABC):
    """A method whose backbone is trained the ordinary way, and whose item-ID embeddings learn from each block.

    Binary cross-entropy and Adam (a fresh one each time) with weight decay. The decay is an L2 gradient on every row
    of a table, those without a row in the batch included; Adam scales that small gradient up to whole steps of the
    learning rate, so that the embeddings of items not seen shrink towards zero. All programs of the protocol do this.
    The defaults are CSDM's (§Experimental settings), with one epoch and weight decay 1e-6 as in the release. A subclass
    hands on as `**shared` what it does not name.

    Args:
        backbone: the CTR model.
        learning_rate: of the pretraining.
        weight_decay: of every optimizer.
        epochs: passes over the base rows.
        batch_size: rows of a batch, two at least; a last batch of a single row is left out, BatchNorm having no
            variance of it.
        adapt_learning_rate: of the item-ID embeddings on a warm block.
        adapt_epochs: passes over a warm block.
        embedding_updates: `all_rows` as above; or `touched_rows`, for tables of millions of rows: a step updates the
            rows of its batch alone, and what is not seen stays as it is, see `RowwiseAdam`.
    """

    def __init__(
        self,
        backbone: CtrModel,
        *,
        learning_rate: PositiveFloat = 1e-3,
        weight_decay: NonNegativeFloat = 1e-6,
        epochs: PositiveInt = 1,
        batch_size: BatchSize = 2048,
        adapt_learning_rate: PositiveFloat = 1e-3,
        adapt_epochs: PositiveInt = 1,
        embedding_updates: EmbeddingUpdates = "all_rows",
    ) -> None:
        super().__init__(backbone)
        self.learning_rate = learning_rate
        self.weight_decay = weight_decay
        self.epochs = epochs
        self.batch_size = batch_size
        self.adapt_learning_rate = adapt_learning_rate
        self.adapt_epochs = adapt_epochs
        self.embedding_updates = embedding_updates
        self.curve = LossCurve()

    def pretrain(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Train the whole backbone on the hot items' rows."""
        self.backbone.train()
        parameters = list(self.backbone.parameters())
        self.minimize("pretrain", parameters, self.ctr_loss, base, self.learning_rate, self.epochs, seed=seed, log=log)

    def train_item_embeddings(self, block: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Train the item-ID embeddings alone on a block.

        The backbone is in training mode, also of a method that has it in evaluation mode while a generator trains.
        """
        self.backbone.train()
        item = [self.backbone.item_embedding]
        rate, epochs = self.adapt_learning_rate, self.adapt_epochs
        self.minimize("adapt", item, self.ctr_loss, block, rate, epochs, seed=seed, log=log)

    def ctr_loss(self, batch: CtrBatch) -> dict[str, Tensor]:
        """Return the binary cross-entropy of the backbone."""
        return {"loss": F.binary_cross_entropy_with_logits(self.backbone(batch), batch.label_B)}

    def minimize(
        self,
        stage: str,
        parameters: list[nn.Parameter],
        losses: Callable[[CtrBatch], dict[str, Tensor]],
        rows: RowSource,
        learning_rate: float,
        epochs: int,
        *,
        repetitions: int = 1,
        optimizer: torch.optim.Optimizer | None = None,
        seed: int | None,
        log: Log,
    ) -> None:
        """Minimize the sum of a batch's losses over these parameters alone, with a fresh optimizer unless one is given.

        For the rest see `train_on`.
        """
        optimizer = optimizer or self.optimizer(parameters, learning_rate)

        def step(batch: CtrBatch) -> dict[str, Tensor]:
            found = losses(batch)
            for parameter in parameters:
                parameter.grad = None
            backward(torch.stack(list(found.values())).sum(), len(batch), parameters)
            optimizer.step()
            return {name: loss.detach() for name, loss in found.items()}

        with training_only(self, parameters):
            optimizers = [optimizer]
            self.train_on(
                stage, rows, step, learning_rate, epochs,
                optimizers=optimizers, repetitions=repetitions, seed=seed, log=log,
            )  # fmt: skip

    def optimizer(
        self, parameters: list[nn.Parameter], learning_rate: float, weight_decay: float | None = None
    ) -> torch.optim.Optimizer:
        """Return a fresh Adam, by default with the method's weight decay."""
        decay = self.weight_decay if weight_decay is None else weight_decay
        updates = self.embedding_updates
        return adam_of(self, parameters, learning_rate=learning_rate, weight_decay=decay, embedding_updates=updates)

    def train_on(
        self,
        stage: str,
        rows: RowSource,
        step: Callable[[CtrBatch], dict[str, Tensor]],
        learning_rate: float,
        epochs: int,
        *,
        optimizers: Sequence[torch.optim.Optimizer],
        repetitions: int = 1,
        seed: int | None,
        log: Log,
    ) -> None:
        """Run `step`, which returns its losses, on every batch `repetitions` times, and log the curves.

        Rows are shuffled anew in each epoch, or taken in stored order where the seed is None. `optimizers` are those
        that `step` uses, for a checkpoint.

        Raises:
            ValueError: there is no row to train on.
            FloatingPointError: a loss is not finite.
        """
        if len(rows) == 0:
            raise ValueError(f"{stage}: no rows to train on; prepare the dataset with a split that has some")
        self.curve.start()
        place = self.checkpoints.enter(Loop(self, optimizers, self.curve))
        if place is None:
            return
        for epoch in range(place.epoch, epochs):
            skip = place.batch if epoch == place.epoch else 0
            batches = rows.batches(self.batch_size, shuffle_seed=None if seed is None else seed + epoch, skip=skip)
            for number, batch in enumerate(batches, start=skip + 1):
                if len(batch) == 1:
                    continue
                for _ in range(repetitions):
                    if self.curve.add(stage, step(batch), len(batch)):
                        self.curve.write(stage, log, learning_rate)
                self.checkpoints.passed(Place(epoch, number), len(batch))
        self.checkpoints.leave()
        self.curve.write(stage, log, learning_rate)
