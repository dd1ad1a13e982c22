"""Reading the windows of a stream by Ray Data: tasks decode and permute them, on any node, ahead of the training.

A stream is read section by section, each by an execution of its own that ends when its blocks lie in the object store.
One execution for a whole epoch would be held back by the training, and Ray Data's executor, a thread of the training's
process, spins while it is held back: the training then waits for the interpreter's lock at every operation.

Legend: R rows of a block, C columns of a packed row.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray
from ray.data import DataContext
from ray.data.block import BlockMetadata
from ray.data.datasource import Datasource, ReadTask

from harness.datasets.parts import PACKED, unpacked
from harness.stream_plan import Window
from harness.streaming import read_here

TASKS_AT_ONCE = 2
"""Tasks of a stream that read side by side. They ask for no CPU of their own: the trial has reserved one for them."""

ROWS_OF_BLOCK = 262_144
"""A block ends with the window in which it reaches this size: what a task costs Ray is then little beside reading."""

BLOCKS_OF_SECTION = 4
"""Blocks that an execution reads; the first reads a single one. Two sections lie in the object store at most."""


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
    """Yield the rows of these windows, one after the other, in matrices of one or several windows, int32 [R, C].

    What a single block holds is read in this process: there is nothing to read ahead of.
    """
    blocks = blocks_of(windows)
    if len(blocks) < 2:
        yield from read_here(windows, columns)
        return
    sections = sections_of(blocks)
    with ThreadPoolExecutor(max_workers=1) as reader:
        coming = reader.submit(_read_section, sections[0], 4 * columns)
        for section in (*sections[1:], None):
            read = coming.result()
            if section is not None:
                coming = reader.submit(_read_section, section, 4 * columns)
            while read:
                # Ray frees a block once neither its reference nor its rows are held.
                yield unpacked(ray.get(read.popleft()).column(PACKED))


def _read_section(blocks: Sequence[Sequence[Window]], row_bytes: int) -> deque[Any]:
    """Return references to the blocks in the object store, once all are there."""
    context = DataContext.get_current()
    context.enable_progress_bars = False
    context.execution_options.preserve_order = True
    dataset = ray.data.read_datasource(
        BlockSource(blocks, row_bytes),
        override_num_blocks=len(blocks),
        num_cpus=0,
        concurrency=min(TASKS_AT_ONCE, len(blocks)),
    )
    return deque(dataset.materialize().to_arrow_refs())


def sections_of(blocks: Sequence[Sequence[Window]]) -> list[Sequence[Sequence[Window]]]:
    """Return the blocks in the same order, as many together as an execution reads; the first is soon there, alone."""
    rest = range(1, len(blocks), BLOCKS_OF_SECTION)
    return [blocks[:1], *(blocks[first : first + BLOCKS_OF_SECTION] for first in rest)]


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
