"""The stream: a split of a dataset in parts, read window by window, never all of it in memory.

Legend: R rows of a window, B rows of a batch, C columns of a packed row, I items, M distinct items.
"""

from __future__ import annotations

import contextlib
import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.datasets.derived import unchanged
from harness.datasets.parts import QUARTERS, part_files
from harness.datasets.prepared import PreparedDataset
from harness.datasets.writing import read_table
from harness.errors import DataError, InputError
from harness.feed import COUNT, check_split
from harness.packed_columns import LABEL, item_name, joined_columns
from harness.specs import Purpose
from harness.stream_plan import WHOLE, Group, Lane, Share, Window, epoch_lanes, groups_of, in_order_of_need
from trainables.base import CtrBatch, ItemTable

LARGEST_COUNT = "largest_count"
"""The schema's fact that says how many rows the most frequent item has."""

Read = Callable[[Sequence[Window], int], Iterator[NDArray[np.int32]]]
"""`read(windows, C)` yields the rows of the windows, one window after the other, in matrices of any height [·, C]."""


def read_here(windows: Sequence[Window], columns: int) -> Iterator[NDArray[np.int32]]:
    """Read in this process, each window when it is asked for."""
    return (window.read() for window in windows)


def open_stream(
    dataset: PreparedDataset,
    split: str,
    purpose: Purpose,
    *,
    count_splits: tuple[str, ...] | None = None,
    share: Share = WHOLE,
    read: Read = read_here,
) -> StreamedRows:
    """Open a split of a dataset in parts as a stream; for the arguments see `harness.feed.open_rows`.

    Args:
        share: which worker's part of the rows is streamed.
        read: who reads the windows.

    Raises:
        TestDataError: a search asks for a split that only repeats may read, be it only to count.
        InputError: there is no such split.
        DataError: the dataset's files are missing, damaged or other rows' by now, or have not the schema's rows.
    """
    for name in (split, *(count_splits or ())):
        check_split(dataset, name, purpose, "interactions")
    with unchanged(dataset):
        groups, items = _groups(dataset, split), read_items(dataset)
    counted = None if count_splits is None else items.share_of(count_splits)
    return StreamedRows(dataset, split, groups, items, counted, share, read)


def _groups(dataset: PreparedDataset, split: str) -> tuple[Group, ...]:
    groups = groups_of(part_files(dataset.folder, dataset.schema.splits[split].atoms))
    found, expected = sum(group.rows for group in groups), dataset.schema.splits[split].rows
    if found != expected:
        raise DataError(
            f"{dataset.folder}: split {split} has {found:,} rows, schema.json says {expected:,};"
            f" delete the folder and prepare {dataset.name} again"
        )
    return groups


@dataclass(frozen=True)
class Items:
    """`items.parquet` of a dataset in parts: the fields with an item's role, and each split's rows of every item.

    `name` is the name of the field of the items' ids; `largest` is the largest number of rows of an item, on whose
    scale counts are.
    """

    name: str
    columns: dict[str, Tensor]
    rows_of_split: dict[str, NDArray[np.int32]]
    largest: int

    def table(self, counted_I: NDArray[np.float32] | None) -> ItemTable:
        """Return the items' side information, with another count where one is given."""
        columns = {self.name: torch.arange(len(next(iter(self.rows_of_split.values()))), dtype=torch.int32)}
        columns |= self.columns
        return ItemTable(columns if counted_I is None else columns | {COUNT: torch.from_numpy(counted_I)})

    def share_of(self, splits: Sequence[str]) -> NDArray[np.float32]:
        """Return the items' rows in these splits over the largest number of rows, float32 [I]."""
        count_I = np.sum([self.rows_of_split[split].astype(np.int64) for split in splits], axis=0)
        share_I: NDArray[np.float32] = (count_I / self.largest).astype(np.float32)
        return share_I

    def distinct(self, split: str) -> Tensor:
        """Return the ids of the items that occur in a split, ascending, int64 [M]."""
        return torch.from_numpy(np.flatnonzero(self.rows_of_split[split]).astype(np.int64))


def read_items(dataset: PreparedDataset) -> Items:
    """Read the items of a dataset in parts.

    Raises:
        DataError: the file is missing or damaged, or lacks a column.
    """
    path = dataset.folder / "items.parquet"
    found = read_table(path)
    names = [field.name for field in dataset.fields if field.role == "item"]
    counts = {split: f"{COUNT}_{split}" for split in dataset.schema.splits}
    for name in (*names, *counts.values()):
        if name not in found:
            raise DataError(f"{path}: has no column {name}; delete the folder and prepare {dataset.name} again")
    columns = {name: torch.from_numpy(found[name].copy()) for name in names}
    rows_of_split = {split: found[name] for split, name in counts.items()}
    # Where the preparation does not say, the most frequent item is taken to have all of its rows in one split.
    largest = max((int(rows_I.max(initial=0)) for rows_I in rows_of_split.values()), default=0)
    return Items(item_name(dataset.fields), columns, rows_of_split, dataset.schema.facts.get(LARGEST_COUNT, largest))


class StreamedRows:
    """A split of a dataset in parts, or one worker's share of it; a `trainables.base.RowSource`.

    `len` is of all workers' rows, and `batch_size` of all workers' batches: each gets its part of every batch. The
    ids of items, their side information and their counts are in memory, rows never are.
    """

    def __init__(
        self,
        dataset: PreparedDataset,
        split: str,
        groups: Sequence[Group],
        items: Items,
        counted_I: NDArray[np.float32] | None,
        share: Share,
        read: Read,
    ) -> None:
        self._dataset, self._split, self._groups = dataset, split, groups
        self._items, self._counted_I = items, counted_I
        self._item_table = items.table(counted_I)
        self._share, self._read = share, read
        self._columns = joined_columns(dataset.fields)
        self._names = [field.name for field in dataset.fields]
        self._item_column = self._columns.first(items.name)

    @property
    def items(self) -> ItemTable:
        """The items as this split may know them."""
        return self._item_table

    def __len__(self) -> int:
        return sum(group.rows for group in self._groups)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Iterator[CtrBatch]:
        """Yield this worker's part of all batches but the first `skip`; in stored order without a seed.

        With a seed, all workers yield the same number of batches, and a batch of all workers has the rows that the seed
        and the batch size say, see `harness.stream_plan`.
        """
        return (self._batch(rows_BC) for rows_BC in self._cut(batch_size, shuffle_seed, skip))

    def distinct_items(self) -> Tensor:
        """Return the ids of the items that occur here, ascending, int64 [M]."""
        return self._items.distinct(self._split)

    def item_quarters(self, seed: int) -> tuple[StreamedRows, StreamedRows, StreamedRows, StreamedRows]:
        """Return four equal quarters of every item's rows by time, aligned by item; see `RowSource`.

        Raises:
            InputError: the dataset was prepared without the quarters of this split.
            DataError: a file is missing or damaged, or other rows lie in the folder by now.
        """
        folder = self._dataset.folder / QUARTERS / self._split
        with unchanged(self._dataset):
            if not folder.is_dir():
                message = f"has no quarters of {self._split!r}; only base rows are quartered"
                raise InputError(f"{self._dataset.name}: {message}")
            groups = groups_of(sorted(folder.glob("part-*.parquet")))
        first, second, third, fourth = (_Quarter(self, groups, seed, quarter) for quarter in range(4))
        return first, second, third, fourth

    def _cut(
        self, batch_size: int, seed: int | None, skip: int, quarter: int = 0, quarters: int = 1
    ) -> Iterator[NDArray[np.int32]]:
        """Yield the batches as matrices of their own [B, C], the columns of one quarter of a stored row.

        Raises:
            DataError: a file is missing or damaged, or other rows lie in the folder, before or after.
        """
        lanes = epoch_lanes(self._groups, batch_size, seed, self._share, skip)
        windows = in_order_of_need(lanes)
        width = self._columns.width
        with unchanged(self._dataset):
            matrices = self._read([window for _, window in windows], width * quarters)
            yield from _batches(lanes, windows, matrices, slice(quarter * width, (quarter + 1) * width))

    def _batch(self, rows_BC: NDArray[np.int32]) -> CtrBatch:
        columns = self._columns.views(rows_BC)
        label_B = columns[LABEL.name]
        if self._counted_I is not None and COUNT in columns:
            columns[COUNT] = torch.from_numpy(self._counted_I.take(rows_BC[:, self._item_column]))
        return CtrBatch({name: columns[name] for name in self._names}, label_B)


class _Quarter(StreamedRows):
    """One quarter of every item's rows: columns of rows that hold all four, in the order of one seed."""

    def __init__(self, whole: StreamedRows, groups: Sequence[Group], seed: int, quarter: int) -> None:
        vars(self).update(vars(copy.copy(whole)))
        self._groups, self._seed, self._quarter = groups, seed, quarter

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Iterator[CtrBatch]:
        """Yield this worker's part of all batches but the first `skip`, in one order for all four quarters.

        Workers go in step. Another seed or batch size shuffles all quarters alike, too.
        """
        seed = self._seed if shuffle_seed is None else shuffle_seed
        rows = self._cut(batch_size, seed, skip, self._quarter, quarters=4)
        return (self._batch(rows_BC) for rows_BC in rows)


def _batches(
    lanes: Sequence[Lane],
    windows: Sequence[tuple[int, Window]],
    matrices: Iterator[NDArray[np.int32]],
    columns: slice,
) -> Iterator[NDArray[np.int32]]:
    """Yield each batch with its part of every lane; it is a copy, so that matrices can go once they are used up."""
    source: Any = matrices
    with contextlib.closing(source):
        waiting = _Waiting(lanes, windows, matrices)
        for parts in zip(*(lane.part_E for lane in lanes), strict=True):
            batch_BC = np.empty((sum(parts), columns.stop - columns.start), dtype=np.int32)
            place = 0
            for lane, part in enumerate(parts):
                after = place + part
                while place < after:
                    taken = waiting.take(lane, after - place)
                    batch_BC[place : place + len(taken)] = taken[:, columns]
                    place += len(taken)
            yield batch_BC


class _Waiting:
    """The rows of each lane that have been read and are in no batch yet: about one window each."""

    def __init__(
        self, lanes: Sequence[Lane], windows: Sequence[tuple[int, Window]], matrices: Iterator[NDArray[np.int32]]
    ) -> None:
        self._left_out = [lane.left_out for lane in lanes]
        self._rows: list[deque[NDArray[np.int32]]] = [deque() for _ in lanes]
        self._arriving = self._arrivals(windows, matrices)

    def take(self, lane: int, rows: int) -> NDArray[np.int32]:
        """Take the next rows of a lane, one at least and at most so many; read on until there are some."""
        while not self._rows[lane]:
            other, arrived = next(self._arriving)
            self._rows[other].append(arrived)
        first = self._rows[lane].popleft()
        if len(first) > rows:
            self._rows[lane].appendleft(first[rows:])
        return first[:rows]

    def _arrivals(
        self, windows: Sequence[tuple[int, Window]], matrices: Iterator[NDArray[np.int32]]
    ) -> Iterator[tuple[int, NDArray[np.int32]]]:
        """Yield what is read, cut where windows end, each piece with its lane; rows that are left out do not appear."""
        matrix = np.empty((0, 0), dtype=np.int32)
        for lane, window in windows:
            rows = window.rows
            while rows:
                if not len(matrix):
                    matrix = next(matrices)
                piece, matrix = matrix[:rows], matrix[rows:]
                rows -= len(piece)
                wanted = piece[self._left_out[lane] :]
                self._left_out[lane] -= len(piece) - len(wanted)
                if len(wanted):
                    yield lane, wanted
