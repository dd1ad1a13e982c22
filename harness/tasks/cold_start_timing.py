"""How long a cold-start method trains on one batch.

Legend: B rows of a batch, M items.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from harness.devices import CPU, rows_on, wait_for
from harness.seeding import derive_seed, torch_seeded
from harness.tasks.context import Context, Outcome
from trainables.base import ColdStartMethod, CtrBatch, ItemTable, RowSource


class ColdStartTimingSettings(BaseModel):
    """The task's options: the batches that are timed, and those before them that are not."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batches: int = Field(default=30, ge=1)
    warm_up: int = Field(default=5, ge=0)


class ColdStartTiming:
    """The milliseconds that pretraining and a method's own training take for one batch (CSDM, Figure 4).

    A method pretrains and fits on the first batches of `base` alone; what it does between asking for one batch and for
    the next is timed, fetching the batch included. `batch_ms` is the median over batches, after a warm-up, `step_ms`
    the median of the same times by the optimizer steps in them, where a batch is used several times. Passes in which
    no optimizer steps, such as one that gathers statistics, do not count. `train/batch_ms` is the method's own
    training: `fit` where it trains there, else `pretrain`.

    The times say something only of a trial that is alone on its machine.
    """

    name = "cold_start_timing"
    version = 1
    primary = "validation/train/batch_ms"
    metrics = ("pretrain/batch_ms", "pretrain/step_ms", "fit/batch_ms", "fit/step_ms", "train/batch_ms")
    settings = ColdStartTimingSettings
    base = ColdStartMethod

    def run(self, context: Context) -> Outcome:
        """Return the times of both trainings; a method that does not train in `fit` has none of it.

        Raises:
            ValueError: the batches end within the warm-up, or no optimizer steps in either training.
        """
        assert isinstance(context.settings, ColdStartTimingSettings)
        search = context.purpose == "search"
        rows = context.feed.open(context.dataset, "validation_base" if search else "base", context.purpose)
        rows = rows_on(rows, context.device)
        method = _built(context)
        kind = "validation" if search else "test"
        metrics: dict[str, float] = {}
        for stage, train in (("pretrain", method.pretrain), ("fit", method.fit)):
            timed = TimedRows(rows, context.settings, Clock(context.device))
            with torch_seeded(derive_seed(context.seed, stage)), _counting_steps(timed.clock):
                train(timed, seed=derive_seed(context.seed, "order", stage), log=context.log)
            if timed.clock.steps and not timed.clock.batch_seconds:
                raise ValueError(f"{stage}: the batches end within the warm-up; set warm_up lower")
            if timed.clock.steps:
                metrics[f"{kind}/{stage}/batch_ms"] = 1000 * float(np.median(timed.clock.batch_seconds))
                metrics[f"{kind}/{stage}/step_ms"] = 1000 * float(np.median(timed.clock.step_seconds))
        own = [metrics[name] for stage in ("fit", "pretrain") if (name := f"{kind}/{stage}/batch_ms") in metrics]
        if not own:
            raise ValueError("no optimizer step was seen; a method that is timed trains with torch.optim")
        return Outcome(metrics | {f"{kind}/train/batch_ms": own[0]})


class Clock:
    """The times of batches in which an optimizer stepped, and `steps`, all optimizer steps so far."""

    def __init__(self, device: torch.device = CPU) -> None:
        self.device = device
        self.steps = 0
        self.batch_seconds: list[float] = []
        self.step_seconds: list[float] = []

    def add(self, seconds: float, steps: int) -> None:
        """Take a batch's time, unless no optimizer stepped in it."""
        if steps:
            self.batch_seconds.append(seconds)
            self.step_seconds.append(seconds / steps)


class TimedRows:
    """A `RowSource` that yields the first batches alone, and times what happens between them."""

    def __init__(self, rows: RowSource, settings: ColdStartTimingSettings, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._rows, self._settings = rows, settings

    @property
    def items(self) -> ItemTable:
        """The items, as the split may know them."""
        return self._rows.items

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Iterator[CtrBatch]:
        """Yield the warm-up's batches and those to be timed."""
        warm_up, count = self._settings.warm_up, self._settings.warm_up + self._settings.batches
        since, steps = time.perf_counter(), self.clock.steps
        batches = self._rows.batches(batch_size, shuffle_seed=shuffle_seed, skip=skip)
        for number, batch in enumerate(itertools.islice(batches, count)):
            yield batch
            wait_for(self.clock.device)
            now, steps_now = time.perf_counter(), self.clock.steps
            if number >= warm_up:
                self.clock.add(now - since, steps_now - steps)
            since, steps = now, steps_now

    def distinct_items(self) -> Tensor:
        """Return the ids of the items that occur here, ascending, int64 [M]."""
        return self._rows.distinct_items()

    def item_quarters(self, seed: int) -> tuple[RowSource, RowSource, RowSource, RowSource]:
        """Return the quarters of every item's rows, timed by the same clock."""
        first, second, third, fourth = (
            TimedRows(quarter, self._settings, self.clock) for quarter in self._rows.item_quarters(seed)
        )
        return first, second, third, fourth


@contextmanager
def _counting_steps(clock: Clock) -> Iterator[None]:
    def count(*_: Any) -> None:
        clock.steps += 1

    hook = register_optimizer_step_post_hook(count)
    try:
        yield
    finally:
        hook.remove()


def _built(context: Context) -> ColdStartMethod:
    component, method = context.components["backbone"], context.method
    with torch_seeded(derive_seed(context.seed, "backbone")):
        backbone = component.cls(context.dataset.fields, **component.parameters)
    with torch_seeded(derive_seed(context.seed, "method")):
        built: ColdStartMethod = method.cls(backbone, **method.parameters)
    return built
