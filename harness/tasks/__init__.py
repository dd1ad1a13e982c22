"""The tasks, by name: their splits, stages, evaluation and primary validation metric."""

from __future__ import annotations

from harness.errors import InputError, did_you_mean
from harness.tasks.context import Task


def load_task(name: str) -> Task:
    """Return the task of this name.

    Raises:
        InputError: no task has the name.
    """
    from harness.tasks.cold_start import ColdStart
    from harness.tasks.next_item import NextItem

    tasks: dict[str, Task] = {task.name: task for task in (ColdStart(), NextItem())}
    if name not in tasks:
        raise InputError(f"unknown task {name!r}{did_you_mean(name, tasks)}")
    return tasks[name]
