"""Reading the windows of a stream by Ray Data: tasks decode and permute them, on any node, ahead of the training.

Legend: R rows of a window, C columns of a packed row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import DataContext, ExecutionResources
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from harness.datasets.parts import PACKED, unpacked
from harness.stream_plan import Window

TASKS_AT_ONCE = 2
"""Tasks of a stream that read side by side. They ask for no CPU of their own: the trial has reserved one for them."""

WINDOWS_AHEAD = 8
"""Windows that lie in the object store at a time, at most."""


class WindowSource(Datasource):
    """The windows of an epoch as a source of Ray Data: one read task and one block of one packed column each."""

    def __init__(self, windows: Sequence[Window], row_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._windows, self._row_bytes = windows, row_bytes

    def estimate_inmemory_data_size(self) -> int:
        """Return the bytes of all windows."""
        return sum(window.rows for window in self._windows) * self._row_bytes

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """Return a task for each window, whatever the parallelism."""
        return [self._task(window) for window in self._windows]

    def _task(self, window: Window) -> ReadTask:
        size = window.rows * self._row_bytes
        return ReadTask(lambda: [_block(window.read())], BlockMetadata(window.rows, size, None, None))


def read_by_ray(windows: Sequence[Window], columns: int) -> Iterator[NDArray[np.int32]]:
    """Yield the rows of these windows, one after the other, int32 [R, C]."""
    if not windows:
        return
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    # Without a limit of its own, a stream would run ahead of the training until the object store is full.
    ahead = WINDOWS_AHEAD * max(window.rows for window in windows) * 4 * columns
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=ahead)
    dataset = ray.data.read_datasource(
        WindowSource(windows, 4 * columns), override_num_blocks=len(windows), num_cpus=0, concurrency=TASKS_AT_ONCE
    )
    for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        yield unpacked(block.column(PACKED))


def _block(rows_RC: NDArray[np.int32]) -> Any:
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows_RC.reshape(-1)), rows_RC.shape[1])
    return pa.table({PACKED: values})
