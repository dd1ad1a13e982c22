"""What the tests of the task `next_item` share: trials of small methods on small generated sequences."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from harness.datasets.prepared import PreparedDataset
from harness.datasets.synthetic import write_small_sequences
from harness.tasks.context import Component, Context, Outcome, Purpose
from harness.tasks.next_item import NextItem, NextItemSettings
from trainables.base import Log, no_log
from trainables.next_item.dreamrec import DreamRec
from trainables.next_item.preferdiff import PreferDiff
from trainables.next_item.sasrec import SASRec

SMALL = {
    SASRec: {"size": 16, "learning_rate": 0.01},
    DreamRec: {"size": 16, "diffusion_steps": 20, "ddim_steps": 4},
    PreferDiff: {"size": 16, "diffusion_steps": 20, "ddim_steps": 4},
}


def sequences(folder: Path) -> PreparedDataset:
    """Write the sequences of 300 users and 30 items; 240 are for training."""
    return write_small_sequences(folder / "small", users=300, items=30)


def run(
    dataset: PreparedDataset,
    method: type[Any],
    parameters: Mapping[str, Any] | None = None,
    *,
    purpose: Purpose = "repeat",
    seed: int = 0,
    start: Mapping[str, Tensor] | None = None,
    log: Log = no_log,
    starts_elsewhere: bool = False,
    **settings: Any,
) -> Outcome:
    """Run a trial of four epochs in batches of 64, where the settings do not say otherwise."""
    chosen = NextItemSettings(**{"batch_size": 64, "maximum_epochs": 4, **settings})
    component = Component(method, parameters or {})
    context = Context(component, {}, chosen, dataset, purpose, seed, start, log, starts_elsewhere=starts_elsewhere)
    return NextItem().run(context)
