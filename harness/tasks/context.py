"""What a task is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from numpy.typing import NDArray
from pydantic import BaseModel
from torch import Tensor

from harness.datasets.prepared import PreparedDataset
from harness.devices import CPU
from harness.feeds import RESIDENT, Feed
from harness.record import OPTIMUM_AUC, TRAINING_ROWS
from harness.seeding import derive_seed
from trainables.base import Log
from trainables.checkpoints import Checkpoints
from trainables.workers import rank

Purpose = Literal["search", "repeat"]


@dataclass(frozen=True)
class Component:
    """A class of `trainables`, or of someone else's package, with checked parameters."""

    cls: type[Any]
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Context:
    """All that a task needs to run one trial.

    `components` holds what the method is built around, by parameter name (`backbone`). `start` is the checkpoint
    of the trial that this one starts from, and `starts_elsewhere` says whether that one, or one before it, had other
    data. `purpose` decides which splits can be opened at all. `feed` opens them.
    `follow` takes the method once it is built, and returns where its loops tell of their progress. `device` is what
    the method computes on.
    """

    method: Component
    components: Mapping[str, Component]
    settings: BaseModel
    dataset: PreparedDataset
    purpose: Purpose
    seed: int
    start: Mapping[str, Tensor] | None
    log: Log
    feed: Feed = RESIDENT
    follow: Callable[[Any], Checkpoints] = lambda method: Checkpoints()
    device: torch.device = CPU
    starts_elsewhere: bool = False


@dataclass(frozen=True)
class Outcome:
    """What a trial measured.

    `metrics` are named `validation/…` or `test/…`; `arrays` hold what statistics need per user or per threshold;
    `checkpoint` is what another trial may start from; `note` says what else went in, and goes beside every result.
    """

    metrics: dict[str, float]
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    checkpoint: dict[str, Tensor] | None = None
    note: str = ""


def stage_seed(context: Context, stage: str) -> int:
    """Return the seed of a stage's random numbers: each worker draws its own, the first as one alone would."""
    return derive_seed(context.seed, stage, *(("worker", rank()) if rank() else ()))


def planted(dataset: PreparedDataset, training: str, test: str) -> dict[str, float]:
    """Return what is known of generated rows beside a result: how many are learned from, and the best possible AUC.

    Nothing of rows that are not generated. Both are of the schema; no method sees them.
    """
    splits = dataset.schema.splits
    optimum = splits[test].optimum_auc
    return {} if optimum is None else {TRAINING_ROWS: float(splits[training].rows), OPTIMUM_AUC: optimum}


def joined(parts: Sequence[Tensor]) -> Tensor:
    """Return the batches' scores or labels together, float32 [N]; a worker's share may have none."""
    return torch.cat(list(parts)) if parts else torch.empty(0)


class Task(Protocol):
    """What is predicted and how it is judged.

    `version` is raised whenever its numbers would change; `primary` is the validation metric that a search maximizes,
    `metrics` those that a table may ask for, without `test/`; seconds among them are read from what a trial logs.
    """

    name: str
    version: int
    primary: str
    metrics: tuple[str, ...]
    settings: type[BaseModel]
    base: type[Any]

    def run(self, context: Context) -> Outcome:
        """Train and evaluate under the protocol; reads test data only when the purpose is `repeat`."""
