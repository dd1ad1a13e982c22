"""The resident feed: a prepared dataset memory-mapped once a node, shared by all its trials; a batch is a gather.

Parquet is decoded once into plain arrays under `<dataset>/resident/<hash>/`, which every process maps copy-on-write
and nobody writes, so that the pages are shared. Each table is one int32 matrix, numbers as the bits of their float32:
a batch costs three gathers however many fields there are, and its columns are views of them.

Legend: R rows of the dataset, S rows of a split, B rows of a batch, I items, C columns of a matrix, L positions of a
history, M distinct items.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.datasets.prepared import PreparedDataset, open_prepared
from harness.datasets.writing import read_table, written_once
from harness.errors import DataError, InputError, TestDataError, did_you_mean
from harness.packed_columns import LABEL, PackedColumns, Place, item_name, user_name
from harness.specs import Purpose
from trainables.base import CtrBatch, Field, ItemTable, SequenceBatch

COUNT = "count"
USER_ID, ITEM_ID = "user_id", "item_id"
TIMESTAMP = "timestamp"
TABLE_OF_ROLE = {"user_id": "rows", "item_id": "rows", "context": "rows", "user": "users", "item": "items"}
SEQUENCE_COLUMNS = ("history", "length", "target")


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
    folder = resident_folder(dataset, _decode)
    tables = {name: mapped_table(folder / f"{name}.npy", layout) for name, layout in _layout(dataset.fields).items()}
    if count_splits is not None:
        tables["items"] = tables["items"].replaced(COUNT, _counted(dataset, folder, tables["rows"], count_splits))
    return ResidentRows(dataset.fields, tables, np.asarray(mapped(folder / f"split.{split}.npy")))


def open_sequences(dataset: PreparedDataset, split: str, purpose: Purpose) -> ResidentSequences:
    """Open a split of a next-item dataset.

    Raises:
        TestDataError: a search asks for a split that only repeats may read.
        InputError: there is no such split, or the dataset holds interactions.
        DataError: the dataset's files are missing, damaged or other rows' by now, or its folder cannot be written.
    """
    check_split(dataset, split, purpose, "sequences")
    folder = resident_folder(dataset, _decode)
    return ResidentSequences(*(mapped(folder / f"{split}.{column}.npy") for column in SEQUENCE_COLUMNS))


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

    def __init__(self, history_SL: NDArray[np.int32], length_S: NDArray[np.int32], target_S: NDArray[np.int32]) -> None:
        self._history_SL, self._length_S, self._target_S = history_SL, length_S, target_S

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
            )


class Table:
    """A table as one int32 matrix [R, C], gathered with NumPy: torch would wake its threads for microseconds' work."""

    def __init__(self, matrix: NDArray[np.int32], layout: PackedColumns) -> None:
        self.matrix, self._layout = matrix, layout

    def columns(self, matrix_BC: NDArray[np.int32]) -> dict[str, Tensor]:
        """Return the fields as views of these rows: int32 [B], int32 [B, L] or float32 [B]."""
        return self._layout.views(matrix_BC)

    def place(self, name: str) -> int:
        """Return the column at which a field begins."""
        return self._layout.first(name)

    def integers(self, name: str) -> NDArray[np.int32]:
        """Return a column [R] as it is stored."""
        return self.matrix[:, self.place(name)]

    def replaced(self, name: str, values_R: NDArray[np.float32]) -> Table:
        """Return the table with another column of numbers, in memory of its own."""
        table = Table(self.matrix.copy(), self._layout)
        table.integers(name)[:] = values_R.view(np.int32)
        return table


def mapped_table(path: Path, layout: PackedColumns) -> Table:
    """Map a matrix of this layout from its file.

    Raises:
        DataError: the file is missing or damaged, or has other columns.
    """
    matrix: NDArray[np.int32] = mapped(path)
    if matrix.ndim != 2 or matrix.shape[1] != layout.width:
        raise DataError(f"{path}: has not the schema's columns; delete {path.parent}, it is decoded again")
    return Table(matrix, layout)


def _layout(fields: Sequence[Field]) -> dict[str, PackedColumns]:
    """Return where each field lies, by table; `rows` ends with the label.

    Arrays that were decoded before are read by it too: the order, by these names, is to stay as it is.
    """
    ids = sorted(
        (field for field in fields if field.name in (USER_ID, ITEM_ID)), key=lambda field: field.name != USER_ID
    )
    others = [field for field in fields if field not in ids]
    layout: dict[str, list[Place]] = {"rows": [], "users": [], "items": []}
    for field in (*ids, *others, LABEL):
        places = layout[TABLE_OF_ROLE[field.role]]
        places.append(Place(field, places[-1].after if places else 0))
    return {name: PackedColumns(places) for name, places in layout.items()}


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


def mapped(path: Path) -> NDArray[Any]:
    """Map an array from its file, copy-on-write.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read ({reason}); delete {path.parent}, it is decoded again") from None


def resident_folder(dataset: PreparedDataset, decode: Callable[[PreparedDataset, Path], None]) -> Path:
    """Return the folder of the decoded arrays, decoding them first when no process has yet; see `derived_folder`."""
    return derived_folder(dataset, "resident", decode, "decoded arrays")


def derived_folder(
    dataset: PreparedDataset, kind: str, write: Callable[[PreparedDataset, Path], None], what: str
) -> Path:
    """Return the folder `<kind>/<hash>` beside a dataset's files, writing it from them first when no process has yet.

    Raises:
        DataError: the dataset's files are missing, damaged or other rows' by now, or its folder cannot be written.
    """
    folder = dataset.folder / kind / dataset.hash[:16]

    def write_checked(partial: Path) -> None:
        write(dataset, partial)
        check_unchanged(dataset)  # before it has its name: what was written of other rows is not kept

    with unchanged(dataset):
        written_once(folder, write_checked, what)
    return folder


@contextlib.contextmanager
def unchanged(dataset: PreparedDataset) -> Iterator[None]:
    """Make sure that what the body reads of a dataset's folder is of the rows that were opened.

    Preparing a dataset anew puts another folder in the place of its own, at any time.

    Raises:
        DataError: other rows lie there, before or after the body, or once it has failed.
    """
    check_unchanged(dataset)
    try:
        yield
    except Exception:
        check_unchanged(dataset)
        raise
    check_unchanged(dataset)


def check_unchanged(dataset: PreparedDataset) -> None:
    """Check that a dataset's folder still holds the rows that were opened.

    Raises:
        DataError: it holds others, or none.
    """
    with contextlib.suppress(DataError):
        if open_prepared(dataset.folder).hash == dataset.hash:
            return
    raise DataError(
        f"{dataset.name}: {dataset.folder} was prepared anew while it was in use, or removed; run the command again"
    )


def _decode(dataset: PreparedDataset, folder: Path) -> None:
    arrays = _sequence_arrays(dataset) if dataset.schema.kind == "sequences" else _interaction_arrays(dataset)
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array, allow_pickle=False)


def _sequence_arrays(dataset: PreparedDataset) -> dict[str, NDArray[Any]]:
    arrays = {}
    for split, schema in dataset.schema.splits.items():
        columns = read_table(dataset.folder / f"{split}.parquet")
        _check_size(dataset, split, len(columns["target"]), schema.rows)
        arrays.update({f"{split}.{name}": columns[name] for name in SEQUENCE_COLUMNS})
    return arrays


def _interaction_arrays(dataset: PreparedDataset) -> dict[str, NDArray[Any]]:
    tables = {name: read_table(dataset.folder / f"{name}.parquet") for name in ("rows", "users", "items")}
    sizes = {"rows": len(tables["rows"][LABEL.name]), "users": dataset.schema.users, "items": dataset.schema.items}
    arrays: dict[str, NDArray[Any]] = {}
    for name, layout in _layout(dataset.fields).items():
        matrix = np.empty((sizes[name], layout.width), dtype=np.int32)
        for place in layout.places:
            values = np.ascontiguousarray(tables[name][place.field.name])
            matrix[:, place.first : place.after] = values.view(np.int32).reshape(-1, place.field.length)
        arrays[name] = matrix
    for split, schema in dataset.schema.splits.items():
        arrays[f"split.{split}"] = np.flatnonzero(tables["rows"][schema.column] == schema.code).astype(np.int32)
        _check_size(dataset, split, len(arrays[f"split.{split}"]), schema.rows)
    return arrays


def _check_size(dataset: PreparedDataset, split: str, found: int, expected: int) -> None:
    if found != expected:
        raise DataError(
            f"{dataset.folder}: split {split} has {found:,} rows, schema.json says {expected:,};"
            f" delete the folder and prepare {dataset.name} again"
        )
