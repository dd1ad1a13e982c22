"""The curves that a method logs while it trains: mean losses, learning rate, throughput."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:  # which imports this module's caller
    from trainables.base import Log

STEPS_BETWEEN_POINTS = 50
"""A curve gets the mean of the losses over this many optimizer steps."""


class LossCurve:
    """Counts a trial's optimizer steps over all stages and logs mean losses, the learning rate and rows a second."""

    def __init__(self) -> None:
        self.step = 0
        self._sums: dict[str, float] = {}
        self._steps = self._rows = 0
        self._since = 0.0

    def state(self) -> dict[str, float]:
        """Return the steps and the sums of the point to come."""
        sums = {f"sum/{name}": total for name, total in self._sums.items()}
        return {"step": self.step, "steps": self._steps, "rows": self._rows} | sums

    def load(self, state: Mapping[str, float]) -> None:
        """Go on from a state; the time of the point to come begins now."""
        self.start()
        self.step, self._steps, self._rows = int(state["step"]), int(state["steps"]), int(state["rows"])
        self._sums = {name.removeprefix("sum/"): total for name, total in state.items() if name.startswith("sum/")}

    def start(self) -> None:
        """Begin a stage: what was summed before does not enter its curve."""
        self._sums, self._steps, self._rows, self._since = {}, 0, 0, time.perf_counter()

    def add(self, stage: str, losses: Mapping[str, Tensor], rows: int) -> bool:
        """Count one optimizer step on this many rows, and tell whether a point is due.

        Raises:
            FloatingPointError: a loss is not finite.
        """
        self.step += 1
        self._steps += 1
        self._rows += rows
        for name, loss in losses.items():
            value = float(loss)
            if not math.isfinite(value):
                raise FloatingPointError(f"{stage}: the {name} is {value} at step {self.step}; lower the learning rate")
            self._sums[name] = self._sums.get(name, 0.0) + value
        return self._steps == STEPS_BETWEEN_POINTS

    def write(self, stage: str, log: Log, learning_rate: float) -> None:
        """Log the means since the last point, if there was a step."""
        if not self._steps:
            return
        for name, total in self._sums.items():
            log(f"{stage}/{name}", total / self._steps, self.step)
        log(f"{stage}/learning_rate", learning_rate, self.step)
        log(f"{stage}/rows_per_second", self._rows / (time.perf_counter() - self._since), self.step)
        self.start()
