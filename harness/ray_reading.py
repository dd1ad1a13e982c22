"""Reading the windows of a stream by Ray Data: tasks decode and permute them, on any node, ahead of the training.

Legend: R rows of a block, C columns of a packed row.
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

ROWS_OF_BLOCK = 262_144
"""A block ends with the window in which it reaches this size: what a task costs Ray is then little beside reading."""

BLOCKS_AHEAD = 8
"""Blocks that lie in the object store at a time, at most."""


class BlockSource(Datasource):
    """The windows of an epoch as a source of Ray Data: some together are a read task and a block of a packed column."""

    def __init__(self, blocks: Sequence[Sequence[Window]], row_bytes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._blocks, self._row_bytes = blocks, row_bytes

    def estimate_inmemory_data_size(self) -> int:
        """Return the bytes of all blocks."""
        return sum(map(_rows, self._blocks)) * self._row_bytes

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: DataContext | None = None
    ) -> list[ReadTask]:
        """Return a task for each block, whatever the parallelism."""
        return [self._task(windows) for windows in self._blocks]

    def _task(self, windows: Sequence[Window]) -> ReadTask:
        rows = _rows(windows)
        size = rows * self._row_bytes
        return ReadTask(lambda: [_block([window.read() for window in windows])], BlockMetadata(rows, size, None, None))


def read_by_ray(windows: Sequence[Window], columns: int) -> Iterator[NDArray[np.int32]]:
    """Yield the rows of these windows, one after the other, in matrices of several windows, int32 [R, C]."""
    if not windows:
        return
    blocks = blocks_of(windows)
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    # Without a limit of its own, a stream would run ahead of the training until the object store is full.
    ahead = BLOCKS_AHEAD * max(map(_rows, blocks)) * 4 * columns
    context.execution_options.resource_limits = ExecutionResources(object_store_memory=ahead)
    dataset = ray.data.read_datasource(
        BlockSource(blocks, 4 * columns), override_num_blocks=len(blocks), num_cpus=0, concurrency=TASKS_AT_ONCE
    )
    for block in dataset.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=1):
        yield unpacked(block.column(PACKED))


def blocks_of(windows: Sequence[Window]) -> list[list[Window]]:
    """Return the windows in the same order, as many together as a block takes."""
    blocks: list[list[Window]] = []
    for window in windows:
        if not blocks or _rows(blocks[-1]) >= ROWS_OF_BLOCK:
            blocks.append([])
        blocks[-1].append(window)
    return blocks


def _rows(windows: Sequence[Window]) -> int:
    return sum(window.rows for window in windows)


def _block(matrices: Sequence[NDArray[np.int32]]) -> Any:
    rows_RC = np.concatenate(matrices)
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows_RC.reshape(-1)), rows_RC.shape[1])
    return pa.table({PACKED: values})
