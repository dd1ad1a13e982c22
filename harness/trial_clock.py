"""The time that a trial took, in however many processes it ran."""

from __future__ import annotations

import time
from collections.abc import Mapping


class TrialClock:
    """Seconds of a trial, on the wall and of the processor, from its beginning in its first process.

    A process that goes on from a checkpoint sets its clock to what it was then: work lost between a checkpoint and a
    kill is done twice and counted once, and the time in which no process ran is not counted.
    """

    def __init__(self) -> None:
        self._wall_start, self._cpu_start = time.perf_counter(), time.process_time()

    @property
    def wall_seconds(self) -> float:
        """Seconds on the wall."""
        return time.perf_counter() - self._wall_start

    @property
    def cpu_seconds(self) -> float:
        """Seconds of the processor, all threads together."""
        return time.process_time() - self._cpu_start

    def state(self) -> dict[str, float]:
        """Return what it reads now."""
        return {"wall_seconds": self.wall_seconds, "cpu_seconds": self.cpu_seconds}

    def load(self, state: Mapping[str, float]) -> None:
        """Set it to what it read then."""
        self._wall_start = time.perf_counter() - state["wall_seconds"]
        self._cpu_start = time.process_time() - state["cpu_seconds"]
