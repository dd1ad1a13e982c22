"""The tasks, by name: their splits, stages, evaluation and primary validation metric."""

from __future__ import annotations

import importlib
from typing import cast

from harness.errors import InputError, did_you_mean
from harness.tasks.context import Task

_TASKS = {
    "cold_start": "harness.tasks.cold_start:ColdStart",
    "cold_start_timing": "harness.tasks.cold_start_timing:ColdStartTiming",
    "ctr": "harness.tasks.ctr:Ctr",
    "next_item": "harness.tasks.next_item:NextItem",
}


def load_task(name: str) -> Task:
    """Return the task of this name.

    Raises:
        InputError: no task has the name.
    """
    if name not in _TASKS:
        raise InputError(f"unknown task {name!r}{did_you_mean(name, _TASKS)}")
    module, cls = _TASKS[name].split(":")
    return cast(Task, getattr(importlib.import_module(module), cls)())
