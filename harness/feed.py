"""The resident feed: a prepared dataset memory-mapped once a node, shared by all its trials; a batch is a gather.

Legend: R rows of the dataset, S rows of a split, B rows of a batch, I items, C columns of a matrix, L positions of a
history, M distinct items, E examples of all histories.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.datasets.prepared import PreparedDataset
from harness.errors import InputError, TestDataError, did_you_mean
from harness.packed_columns import LABEL, item_name, user_name
from harness.resident_tables import (
    SEQUENCE_COLUMNS,
    Table,
    decode,
    mapped,
    mapped_table,
    resident_folder,
    table_layouts,
)
from harness.specs import Purpose
from harness.users_of_sequences import SequenceColumns, rows_go_on, splits_of_every_user
from trainables.base import CtrBatch, Field, ItemTable, SequenceBatch

COUNT = "count"
TIMESTAMP = "timestamp"


def open_rows(
    dataset: PreparedDataset, split: str, purpose: Purpose, *, count_splits: tuple[str, ...] | None = None
) -> ResidentRows:
    """Open a split of a click-through-rate dataset.

    Args:
        dataset: the prepared dataset.
        split: its name in the schema.
        purpose: a search may open only the splits that the schema opens to it.
        count_splits: None for the item counts as prepared, over all rows (the paper's leak); otherwise the splits
            whose rows are counted, on the same scale: divided by the largest count over all rows.

    Raises:
        TestDataError: a search asks for a split that only repeats may read, be it only to count.
        InputError: there is no such split, or the dataset holds sequences.
        DataError: the dataset's files are missing, damaged or other rows' by now, or its folder cannot be written.
    """
    for name in (split, *(count_splits or ())):
        check_split(dataset, name, purpose, "interactions")
    folder = resident_folder(dataset, decode)
    tables = {
        name: mapped_table(folder / f"{name}.npy", layout) for name, layout in table_layouts(dataset.fields).items()
    }
    if count_splits is not None:
        tables["items"] = tables["items"].replaced(COUNT, _counted(dataset, folder, tables["rows"], count_splits))
    return ResidentRows(dataset.fields, tables, np.asarray(mapped(folder / f"split.{split}.npy")))


def open_sequences(dataset: PreparedDataset, split: str, purpose: Purpose) -> ResidentSequences:
    """Open a split of a next-item dataset.

    Its batches tell the user where each split has a row of every one, all in the same order, as under leave-one-out;
    the order is checked, in the splits that the purpose may read.

    Raises:
        TestDataError: a search asks for a split that only repeats may read.
        InputError: there is no such split, or the dataset holds interactions.
        DataError: the dataset's files are missing, damaged or other rows' by now, or its folder cannot be written.
    """
    check_split(dataset, split, purpose, "sequences")
    folder = resident_folder(dataset, decode)

    def columns(name: str) -> SequenceColumns:
        return SequenceColumns(*(mapped(folder / f"{name}.{column}.npy") for column in SEQUENCE_COLUMNS))

    shared = splits_of_every_user(dataset.schema, purpose)
    known = bool(shared) and rows_go_on([columns(name) for name in shared])
    return ResidentSequences(*columns(split), np.arange(dataset.schema.users, dtype=np.int32) if known else None)


class ResidentRows:
    """A split of a click-through-rate dataset in shared memory; a `trainables.base.RowSource`."""

    def __init__(self, fields: Sequence[Field], tables: Mapping[str, Table], row_S: NDArray[np.int32]) -> None:
        self._names = [field.name for field in fields]
        self._user, self._item = user_name(fields), item_name(fields)
        self._rows, self._users, self._items = (tables[name] for name in ("rows", "users", "items"))
        self._row_S = row_S
        item_ids_I = torch.arange(len(self._items.matrix), dtype=torch.int32)
        self._item_table = ItemTable({self._item: item_ids_I, **self._items.columns(self._items.matrix)})

    @property
    def items(self) -> ItemTable:
        """The items as this split may know them: the columns with an item's role, and their ids themselves."""
        return self._item_table

    def __len__(self) -> int:
        return len(self._row_S)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0) -> Iterator[CtrBatch]:
        """Yield all rows once, but for the first `skip` batches, the last one possibly short.

        Rows come in stored order without a seed. The order depends on the seed alone; no global generator is touched.
        """
        return (self.batch(row_B) for row_B in self.row_batches(batch_size, shuffle_seed=shuffle_seed, skip=skip))

    def row_batches(
        self, batch_size: int, *, shuffle_seed: int | None = None, skip: int = 0
    ) -> Iterator[NDArray[np.int32]]:
        """Yield the numbers of the rows in each batch, int32 [B]; see `batches`."""
        order_S = shuffled(self._row_S, shuffle_seed)
        for start in range(skip * batch_size, len(order_S), batch_size):
            yield order_S[start : start + batch_size]

    def distinct_items(self) -> Tensor:
        """Return the ids of the items that occur here, ascending, int64 [M]."""
        item_M: NDArray[np.int64] = np.unique(self.item_numbers).astype(np.int64)
        return torch.from_numpy(item_M)

    def item_quarters(self, seed: int) -> tuple[ResidentRows, ResidentRows, ResidentRows, ResidentRows]:
        """Return four equal quarters of every item's rows by time, aligned by item; see `RowSource`.

        Time is the field `timestamp`, in float32; rows of one time, or all rows where there is no such field, keep
        their stored order.
        """
        item_S = self.item_numbers
        time_S = self._rows.integers(TIMESTAMP)[self._row_S].view(np.float32) if TIMESTAMP in self._names else item_S
        order_S = np.lexsort((time_S, item_S))
        row_S, item_S = self._row_S[order_S], item_S[order_S]
        rows_I = np.bincount(item_S)
        place_S = np.arange(len(item_S)) - (rows_I.cumsum() - rows_I)[item_S]
        quarter_S = place_S // np.maximum(rows_I // 4, 1)[item_S]
        quarter_S[place_S >= (rows_I // 4 * 4)[item_S]] = 4
        first, second, third, fourth = (self.of(shuffled(row_S[quarter_S == quarter], seed)) for quarter in range(4))
        return first, second, third, fourth

    @property
    def row_numbers(self) -> NDArray[np.int32]:
        """The numbers of its rows in the dataset, in their order."""
        return self._row_S

    @property
    def item_numbers(self) -> NDArray[np.int32]:
        """The item of each row."""
        return self._rows.integers(self._item)[self._row_S]

    def of(self, row_S: NDArray[np.int32]) -> ResidentRows:
        """Return other rows of the same dataset."""
        rows = copy.copy(self)
        rows._row_S = row_S
        return rows

    def batch(self, row_B: NDArray[np.int32]) -> CtrBatch:
        """Return the rows of these numbers in the dataset."""
        rows_BC = self._rows.matrix.take(row_B, axis=0)  # `take` is several times faster than indexing
        columns = self._rows.columns(rows_BC)
        if self._user is not None:
            columns |= self._users.columns(self._users.matrix.take(rows_BC[:, self._rows.place(self._user)], axis=0))
        columns |= self._items.columns(self._items.matrix.take(rows_BC[:, self._rows.place(self._item)], axis=0))
        return CtrBatch({name: columns[name] for name in self._names}, columns[LABEL.name])


class ResidentSequences:
    """A split of a next-item dataset in shared memory; a `trainables.base.SequenceSource`."""

    def __init__(
        self,
        history_SL: NDArray[np.int32],
        length_S: NDArray[np.int32],
        target_S: NDArray[np.int32],
        user_S: NDArray[np.int32] | None = None,
    ) -> None:
        self._history_SL, self._length_S, self._target_S, self._user_S = history_SL, length_S, target_S, user_S

    def __len__(self) -> int:
        return len(self._length_S)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Iterator[SequenceBatch]:
        """Yield all examples once, the last batch possibly short; in stored order without a seed."""
        order_S = shuffled(np.arange(len(self), dtype=np.int32), shuffle_seed)
        for start in range(0, len(order_S), batch_size):
            row_B = order_S[start : start + batch_size]
            yield SequenceBatch(
                torch.from_numpy(self._history_SL.take(row_B, axis=0)),
                torch.from_numpy(self._length_S.take(row_B)),
                torch.from_numpy(self._target_S.take(row_B)),
                None if self._user_S is None else torch.from_numpy(self._user_S.take(row_B)),
            )

    @property
    def tells_users(self) -> bool:
        """Whether batches tell whose their histories are."""
        return self._user_S is not None

    def without_users(self) -> ResidentSequences:
        """Return the same examples of users that nobody knows."""
        return ResidentSequences(self._history_SL, self._length_S, self._target_S)

    def prefixes(self) -> ResidentSequences:
        """Return every item of a history but its first as a target of its own, and the target as before.

        A history of n items gives n examples of its user, each with the items before its target as history, the
        shortest first.
        """
        first_S = self._length_S.cumsum() - self._length_S
        length_E = (np.arange(self._length_S.sum()) - first_S.repeat(self._length_S) + 1).astype(np.int32)
        row_E = np.arange(len(self), dtype=np.int32).repeat(self._length_S)
        history_EL = self._history_SL.take(row_E, axis=0)
        position_L = np.arange(history_EL.shape[1])
        after_E = history_EL[np.arange(len(row_E)), np.minimum(length_E, len(position_L) - 1)]
        target_E = np.where(length_E < self._length_S.take(row_E), after_E, self._target_S.take(row_E))
        history_EL[position_L >= length_E[:, None]] = 0
        user_E = None if self._user_S is None else self._user_S.take(row_E)
        return ResidentSequences(history_EL, length_E, target_E, user_E)


def check_split(dataset: PreparedDataset, split: str, purpose: Purpose, kind: str) -> None:
    """Check that there is such a split, of this kind, and that the purpose may read it.

    Raises:
        TestDataError: a search asks for a split that only repeats may read.
        InputError: there is no such split, or the dataset holds rows of the other kind.
    """
    schema = dataset.schema
    if schema.kind != kind:
        raise InputError(f"{dataset.name}: holds {schema.kind}, {kind} are needed; choose a dataset that fits the task")
    if split not in schema.splits:
        raise InputError(f"{dataset.name}: no split {split!r}{did_you_mean(split, schema.splits)}")
    if purpose == "search" and not schema.splits[split].search:
        raise TestDataError(f"{dataset.name}: a search may not read {split!r}; only repeats do")


def _counted(dataset: PreparedDataset, folder: Path, rows: Table, splits: Sequence[str]) -> NDArray[np.float32]:
    item_R = rows.integers(item_name(dataset.fields))
    counted_R = np.zeros(len(item_R), dtype=np.bool_)
    for split in splits:
        counted_R[mapped(folder / f"split.{split}.npy")] = True
    count_I = np.bincount(item_R[counted_R], minlength=dataset.schema.items)
    share_I: NDArray[np.float32] = (count_I / np.bincount(item_R).max()).astype(np.float32)
    return share_I


def shuffled(row_S: NDArray[np.int32], shuffle_seed: int | None) -> NDArray[np.int32]:
    """Return the rows in the order of a seed, or as they are without one."""
    if shuffle_seed is None:
        return row_S
    order = torch.randperm(len(row_S), generator=torch.Generator().manual_seed(shuffle_seed))
    return row_S.take(order.numpy())
