"""The checkpoints of one running trial: what they hold, when they are taken, and how a trial goes on from one.

A trial that begins again runs its task from the start. What is behind its checkpoint returns what it returned then, or
does nothing; the loop that was interrupted goes on at its batch, with the parameters, moments, random numbers, curves
and clock of that moment. So its numbers are those of a trial that was never interrupted, bit for bit.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from harness.devices import CPU, moved
from harness.errors import TrialError
from harness.process_memory import trim_memory
from harness.record import Curve
from harness.seeding import random_state, set_random_state
from harness.trial_clock import TrialClock
from trainables.checkpoints import Checkpoints, Loop, Place
from trainables.workers import from_first, rank, summed

T = TypeVar("T")
Write = Callable[[bytes], None]
"""Takes a worker's checkpoint; all workers call it at the same step."""

FIRST_AFTER = 20
"""Batches after which a trial's first checkpoint is taken; then its steps have shown how long they take."""

SHARE_OF_TIME = 0.05
"""Of a training's time, checkpoints take this much at most: those of millions of rows are taken less often."""


class TrialCheckpoints(Checkpoints):
    """Takes a checkpoint every so many seconds, in steps that all workers agree on.

    Args:
        write: takes a checkpoint.
        seconds: between two of them, about, if writing one is done in a twentieth of that; 0 is after every batch.
        resumed: the checkpoint of this worker to go on from, if there is one.
        shared: the first worker's, which alone holds what all workers have in common.

    Raises:
        TrialError: the checkpoint to go on from cannot be read.
    """

    def __init__(
        self, write: Write, *, seconds: float = 30.0, resumed: bytes | None = None, shared: bytes | None = None
    ) -> None:
        super().__init__()
        self.rows = 0
        """Rows that this worker's training loops have seen, each as often as it was."""
        self._write, self._seconds = write, seconds
        self._own: dict[str, Any] = _loaded(resumed)
        self._shared: dict[str, Any] = self._own if shared is None else _loaded(shared)
        self._behind: list[str] = list(self._shared.get("behind", []))
        self._returned: dict[str, Any] = dict(self._shared.get("returned", {}))
        self._kept = dict(self._shared.get("kept", {}))
        self._goal = self._shared.get("loop")
        self._part, self._loops, self._key = "", 0, ""
        self._loop: Loop | None = None
        self._module: nn.Module | None = None
        self._curves: Mapping[str, Curve] = {}
        self._clock: TrialClock | None = None
        self._batches, self._due, self._since = 0, FIRST_AFTER if seconds else 1, time.perf_counter()

    def follow(self, module: nn.Module, curves: dict[str, Curve], clock: TrialClock) -> None:
        """Hold the method, the curves and the clock of a trial, and bring them to where the checkpoint left them."""
        self._module, self._curves, self._clock = module, curves, clock
        if not self._shared:
            return
        module.load_state_dict(self._shared["module"])
        for name, curve in self._shared["curves"].items():
            curves[name] = Curve(steps=curve["steps"], values=curve["values"], seconds=curve["seconds"])
        self.rows = int(self._own["rows"])
        clock.load(self._own["clock"])

    def once(self, name: str, work: Callable[[], T]) -> T:
        """Return what the work returns, or what it returned when it is behind: numbers and tensors, by name."""
        if name in self._returned:
            found: T = self._returned[name]
            return found
        outside, self._part, self._loops = (self._part, self._loops), name, 0
        try:
            self._returned[name] = returned = work()
        finally:
            self._part, self._loops = outside
        return returned

    def enter(self, loop: Loop) -> Place | None:
        """Return where a loop begins; None when it is behind."""
        self._key = f"{self._part}/{self._loops}"
        self._loops += 1
        if self._key in self._behind:
            return None
        self._loop = loop
        if self._key != self._goal:
            return Place()
        self._goal = None
        loop.module.load_state_dict(self._shared["module"])
        for optimizer, state in zip(loop.optimizers, self._shared["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        loop.progress.load(self._shared["progress"])
        set_random_state(self._own["random"])
        place = Place(*self._shared["place"])
        self._own, self._shared = {}, {}
        trim_memory()
        return place

    def passed(self, place: Place, rows: int, batches: int = 1) -> None:
        """Count the batches, and take a checkpoint when one is due."""
        self.rows += rows
        self._batches += batches
        if self._batches >= self._due:
            self._take(place)

    def leave(self) -> None:
        """Take note that the loop is over."""
        self._behind.append(self._key)
        self._loop = None

    def keep(self, name: str, state: dict[str, Tensor]) -> None:
        """Keep a copy of a state, unless the loop to go on with is still ahead: then what is kept is of that time."""
        if self._goal is None:
            super().keep(name, state)

    def rows_of_all_workers(self) -> int:
        """Return the rows that the loops of all workers have seen; all workers ask together."""
        return int(summed(torch.tensor(self.rows)))

    def _take(self, place: Place) -> None:
        assert self._loop is not None and self._module is not None and self._clock is not None
        content: dict[str, Any] = {"random": random_state(), "rows": self.rows, "clock": self._clock.state()}
        if rank() == 0:
            content |= {
                "module": self._module.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer in self._loop.optimizers],
                "progress": self._loop.progress.state(),
                "curves": {
                    name: {"steps": curve.steps, "values": curve.values, "seconds": curve.seconds}
                    for name, curve in self._curves.items()
                },
                "loop": self._key,
                "place": (place.epoch, place.batch),
                "behind": self._behind,
                "returned": self._returned,
                "kept": self._kept,
            }
        begin = time.perf_counter()
        buffer = io.BytesIO()
        torch.save(moved(content, CPU), buffer)
        self._write(buffer.getvalue())
        # What a checkpoint takes is many times what the next batches need again.
        del content, buffer
        trim_memory()
        now = time.perf_counter()
        seconds = max(self._seconds, (now - begin) / SHARE_OF_TIME) if self._seconds else 0.0
        batches = int(seconds * self._batches / max(begin - self._since, 1e-3))
        self._batches, self._due, self._since = 0, from_first(max(batches, 1)), now


def _loaded(content: bytes | None) -> dict[str, Any]:
    if content is None:
        return {}
    try:
        loaded: dict[str, Any] = torch.load(io.BytesIO(content), weights_only=True)
    except Exception as error:  # an empty, a cut and a zeroed file each have an error of their own type
        reason = " ".join(str(error).split())[:200]
        raise TrialError(f"its checkpoint cannot be read ({type(error).__name__}: {reason})") from None
    return loaded
