"""DGenCTR in front of the cold-start protocol: what a generatively pre-trained backbone is worth there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from trainables.base import ItemTable, Log, PositiveFloat, PositiveInt, RowSource, no_log
from trainables.cold_start.training import TrainedColdStartMethod
from trainables.ctr.denoiser import FieldDenoiser
from trainables.ctr.dgenctr import pretrain
from trainables.diffusion.discrete import SCHEDULES, Corruption, DiscreteDiffusion, KeepingSchedule
from trainables.layers import EmbeddedCtrModel
from trainables.workers import of_first_worker

_DENOISER = "denoiser."


class DGenCTRBackbone(TrainedColdStartMethod):
    """Learn to restore corrupted rows of hot items, then train the backbone the ordinary way, which denoises the label.

    Nothing else differs from the bare backbone, and other cold-start methods may start from it. For the arguments that
    are not listed here see `TrainedColdStartMethod` and `trainables.ctr.dgenctr.DGenCTRPretraining`.

    Args:
        backbone: the CTR model.
        restoring_epochs: passes over the base rows of the generative stage, at the same learning rate.
    """

    def __init__(
        self,
        backbone: EmbeddedCtrModel,
        *,
        restoring_epochs: PositiveInt = 1,
        corruption: Corruption = "mask",
        schedule: KeepingSchedule = "linear",
        steps: PositiveInt = 100,
        label_weight: PositiveFloat = 1.0,
        negatives: PositiveInt = 128,
        **shared: Any,
    ) -> None:
        super().__init__(backbone, **shared)
        self.embedded_backbone = (backbone,)  # as `backbone`, with its own type
        self.restoring_epochs = restoring_epochs
        self.process = DiscreteDiffusion(SCHEDULES[schedule](steps), corruption)
        self.label_weight, self.negatives = label_weight, negatives
        self.denoiser: FieldDenoiser | None = None  # while the backbone learns to restore rows

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load a state; one that was taken while the backbone learned to restore rows has the denoiser too."""
        if self.denoiser is None and any(name.startswith(_DENOISER) for name in state_dict):
            self.denoiser = self._built_denoiser()
        return super().load_state_dict(state_dict, strict, assign)

    def pretrain(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Train the backbone by restoring corrupted rows, then by their labels."""
        self.checkpoints.once("restoring", lambda: self._restore(base, seed=seed, log=log))
        super().pretrain(base, seed=seed, log=log)

    def _restore(self, base: RowSource, *, seed: int, log: Log) -> None:
        self.denoiser = self._built_denoiser()
        _take_from_first(self.denoiser.parameters())
        pretrain(
            self,
            self.denoiser,
            base,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            batch_size=self.batch_size,
            epochs=self.restoring_epochs,
            embedding_updates=self.embedding_updates,
            curve=self.curve,
            seed=seed + self.epochs,
            log=log,
        )
        self.denoiser = None
        for parameter in self.parameters():
            parameter.grad = None

    def _built_denoiser(self) -> FieldDenoiser:
        """Return a denoiser of the backbone; what it has beside that is drawn from torch's global generator."""
        backbone = self.embedded_backbone[0]
        return FieldDenoiser(backbone, self.process, label_weight=self.label_weight, negatives=self.negatives)

    def fit(self, base: RowSource, *, seed: int, log: Log = no_log) -> None:
        """Do nothing: there is nothing beside the backbone."""

    def generate(self, items: ItemTable, item_M: Tensor) -> Tensor | None:
        """Return None: new items keep the embeddings they have."""
        return None

    def adapt(self, block: RowSource, new_item_M: Tensor, *, seed: int, log: Log = no_log) -> None:
        """Train the item-ID embeddings on the block."""
        self.train_item_embeddings(block, seed=seed, log=log)


@torch.no_grad()
def _take_from_first(parameters: Iterable[nn.Parameter]) -> None:
    """Give all workers the first one's values: in a stage, each draws from a generator of its own."""
    for parameter in parameters:
        parameter.copy_(of_first_worker(parameter))
