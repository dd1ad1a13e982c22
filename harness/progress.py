"""What a user sees while a table runs: studies, trials, time left."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from rich.console import Console
from rich.live import Live
from rich.table import Table

from harness.estimate import left, wall_seconds
from harness.record import TrialResult
from harness.request import Line
from harness.schedule import Schedule
from harness.tasks import load_task

REFRESH_SECONDS = 1.0


@dataclass
class Progress:
    """A live table on a terminal, one line a finished trial elsewhere; `slots` trials run at a time."""

    schedule: Schedule
    known: list[TrialResult]
    slots: float
    console: Console
    started: float = field(default_factory=time.monotonic)
    _reported: set[str] = field(default_factory=set)
    _refreshed: float = 0.0
    _live: Live | None = None

    def __enter__(self) -> Progress:
        if self.console.is_terminal:
            self._live = Live(self._table(), console=self.console, auto_refresh=False)
            self._live.start()
        self._reported = set(self.schedule.finished)
        return self

    def __exit__(self, *exception: object) -> None:
        if self._live is not None:
            self._live.update(self._table(), refresh=True)
            self._live.stop()

    def __call__(self, schedule: Schedule) -> None:
        """Show what has changed."""
        now = time.monotonic()
        if self._live is None:
            self._print_new()
        elif now - self._refreshed >= REFRESH_SECONDS:
            self._live.update(self._table(), refresh=True)
            self._refreshed = now

    def _print_new(self) -> None:
        for trial_id, (label, result) in list(self.schedule.finished.items()):
            if trial_id in self._reported:
                continue
            self._reported.add(trial_id)
            outcome = f"failed: {result.error}" if result.status == "failed" else headline(result)
            self.console.print(
                f"{label}: {outcome}, {result.wall_seconds:.1f} s{self._time_left()}", highlight=False, soft_wrap=True
            )

    def _time_left(self) -> str:
        parts = left(self.schedule, [*self.known, *(result for _, result in self.schedule.finished.values())])
        seconds = wall_seconds(parts, self.slots)
        return "" if seconds is None else f"; about {spoken(seconds)} left"

    def _table(self) -> Table:
        table = Table(box=None, pad_edge=False)
        for column in ("dataset", "method", "search", "best", "repeats", "failed"):
            table.add_column(column, justify="left" if column in ("dataset", "method") else "right")
        for line in self.schedule.lines:
            table.add_row(line.dataset.name, line.row.name, *_counts(line, self.schedule.request.seeds))
        running = ", ".join(job.label for job in self.schedule.running.values())
        table.caption = (
            f"{spoken(time.monotonic() - self.started)} so far{self._time_left()}. Running: {running or '–'}"
        )
        return table


def headline(result: TrialResult) -> str:
    """Return the metric that stands for a trial in one line of progress: the study's own, or the first on test data."""
    primary = load_task(result.spec.task).primary
    test = [name for name in result.metrics if name.startswith("test/")]
    name = test[0] if test else primary
    return f"{name} {result.metrics[name]:.4f}" if name in result.metrics else "finished"


def spoken(seconds: float) -> str:
    """Return a duration as people say it: `42 s`, `7 min`, `2 h 5 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


def _counts(line: Line, seeds: Iterable[int]) -> tuple[str, str, str, str]:
    if line.problem:
        return "–", "–", line.problem, "–"
    search, best = "–", "–"
    if line.study is not None:
        search = f"{sum(asked.told for asked in line.study.asked)}/{line.study.budget}"
        if line.study.best is not None:
            best = f"{line.study.best.value:.4f}"
    return search, best, f"{len(line.results)}/{len(list(seeds))}", str(line.failed)
