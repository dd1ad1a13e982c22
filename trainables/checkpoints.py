"""How a training loop goes on where it was when its process was killed: what it tells, and what it is told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor, nn

T = TypeVar("T")


@dataclass(frozen=True)
class Place:
    """Where a loop stands: `batch` batches of epoch `epoch` are behind it, both counted from 0."""

    epoch: int = 0
    batch: int = 0


class Progress(Protocol):
    """What a loop counts while it runs."""

    def state(self) -> dict[str, float]:
        """Return the counts by name."""

    def load(self, state: Mapping[str, float]) -> None:
        """Go on from counts."""


@dataclass(frozen=True)
class Loop:
    """What changes while a loop runs: the parameters, the optimizers' moments, the counts."""

    module: nn.Module
    optimizers: Sequence[torch.optim.Optimizer]
    progress: Progress


class Checkpoints:
    """What training loops tell of their progress; this one keeps it in memory, for a process that is not killed.

    A training is made of parts that run `once` and of loops. When it runs again from its beginning with checkpoints of
    an earlier process, parts that are behind return what they returned, and loops that are behind do nothing; the loop
    that was interrupted begins at its place, with everything as it was there.
    """

    def __init__(self) -> None:
        self._kept: dict[str, dict[str, Tensor]] = {}

    def once(self, name: str, work: Callable[[], T]) -> T:
        """Return what the work returns, or what it returned when it is behind: numbers and tensors, by name."""
        return work()

    def enter(self, loop: Loop) -> Place | None:
        """Return where a loop begins; None when it is behind."""
        return Place()

    def passed(self, place: Place, rows: int, batches: int = 1) -> None:
        """Take note that the loop reached this place with so many rows, in a batch or several."""

    def leave(self) -> None:
        """Take note that the loop is over."""

    def keep(self, name: str, state: dict[str, Tensor]) -> None:
        """Keep a copy of a state until it is asked for; loops that are behind have kept theirs."""
        self._kept[name] = {key: value.detach().clone() for key, value in state.items()}

    def kept(self, name: str) -> dict[str, Tensor] | None:
        """Return the last state that was kept under this name."""
        return self._kept.get(name)
