"""The resident feed: columns memory-mapped once a node, shared by all its trials; a batch is a gather.

Parquet is decoded once into plain arrays under `<dataset>/resident/<hash>/`, which every process maps, so that the
pages are shared. Columns of one kind lie side by side in a matrix, and a batch takes its rows of all of them at once.

Legend: R rows of the dataset, S rows of a split, B rows of a batch, I items, L positions of a sequence.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from harness.datasets.prepared import PreparedDataset, SplitSchema
from harness.datasets.writing import exclusive, read_table
from harness.errors import DataError, InputError, TestDataError, did_you_mean
from harness.specs import Purpose
from trainables.base import CtrBatch, Field, ItemTable, SequenceBatch

LABEL = "label"
COUNT = "count"


def open_rows(
    dataset: PreparedDataset, split: str, purpose: Purpose, *, count_splits: tuple[str, ...] | None = None
) -> ResidentRows:
    """Open a split of a click-through-rate dataset.

    Args:
        dataset: the prepared dataset.
        split: its name in the schema.
        purpose: a search may open only the splits that the schema opens to it.
        count_splits: None for the item counts as prepared, over all rows (the paper's leak); otherwise the splits
            whose rows are counted, on the same scale.

    Raises:
        TestDataError: a search asks for a split that only repeats may read.
        InputError: there is no such split.
        DataError: the dataset's files are missing or damaged.
    """
    for name in (split, *(count_splits or ())):
        _check_split(dataset, name, purpose)
    arrays = _Resident(dataset)
    items = arrays.items()
    if count_splits is not None:
        items[COUNT] = _recounted(arrays, dataset, count_splits)
    return ResidentRows(arrays, dataset.fields, arrays.index(split), ItemTable(items))


def open_sequences(dataset: PreparedDataset, split: str, purpose: Purpose) -> ResidentSequences:
    """Open a split of a next-item dataset.

    Raises:
        TestDataError: a search asks for a split that only repeats may read.
        InputError: there is no such split.
        DataError: the dataset's files are missing or damaged.
    """
    _check_split(dataset, split, purpose)
    arrays = _Resident(dataset)
    columns = (arrays.column(split, name) for name in ("history", "length", "target"))
    return ResidentSequences(*columns)


class ResidentRows:
    """A split of a click-through-rate dataset in shared memory; a `trainables.base.RowSource`."""

    def __init__(self, arrays: _Resident, fields: Sequence[Field], index_S: Tensor, items: ItemTable) -> None:
        self._fields = tuple(fields)
        self._index_S = index_S
        self._items = items
        self._rows = _Block(arrays, "rows", [f.name for f in fields if f.role in ("user_id", "item_id")])
        self._numbers = _Block(arrays, "rows", [*(f.name for f in fields if f.role == "context"), LABEL], "float")
        user = [field for field in fields if field.role == "user"]
        item = [field for field in fields if field.role == "item"]
        self._users = _Block(arrays, "users", [f.name for f in user if f.kind != "number"])
        self._user_numbers = _Block(arrays, "users", [f.name for f in user if f.kind == "number"], "float")
        self._item_columns = _Block(arrays, "items", [f.name for f in item if f.kind != "number"])
        self._item_numbers = [field.name for field in item if field.kind == "number"]
        self._user_id, self._item_id = (
            next(field.name for field in fields if field.role == role) for role in ("user_id", "item_id")
        )

    @property
    def items(self) -> ItemTable:
        """The items as this split may know them."""
        return self._items

    def __len__(self) -> int:
        return len(self._index_S)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Iterator[CtrBatch]:
        """Yield all rows once, the last batch possibly short; in stored order without a seed."""
        order_S = _ordered(self._index_S, shuffle_seed)
        for start in range(0, len(order_S), batch_size):
            yield self._batch(order_S[start : start + batch_size])

    def distinct_items(self) -> Tensor:
        """Return the ids of the items that occur here, ascending, int64 [M]."""
        item_S = self._rows.take(self._index_S)[self._item_id]
        distinct_M: Tensor = torch.unique(item_S).long()
        return distinct_M

    def _batch(self, row_B: Tensor) -> CtrBatch:
        columns = self._rows.take(row_B)
        numbers = self._numbers.take(row_B)
        label_B = numbers.pop(LABEL)
        user_B, item_B = columns[self._user_id], columns[self._item_id]
        columns |= numbers | self._users.take(user_B) | self._user_numbers.take(user_B)
        columns |= self._item_columns.take(item_B)
        columns |= {name: self._items.columns[name].index_select(0, item_B) for name in self._item_numbers}
        return CtrBatch(columns, label_B)


class ResidentSequences:
    """A split of a next-item dataset in shared memory; a `trainables.base.SequenceSource`."""

    def __init__(self, history_SL: Tensor, length_S: Tensor, target_S: Tensor) -> None:
        self._history_SL, self._length_S, self._target_S = history_SL, length_S, target_S

    def __len__(self) -> int:
        return len(self._length_S)

    def batches(self, batch_size: int, *, shuffle_seed: int | None = None) -> Iterator[SequenceBatch]:
        """Yield all examples once, the last batch possibly short; in stored order without a seed."""
        order_S = _ordered(torch.arange(len(self), dtype=torch.int32), shuffle_seed)
        for start in range(0, len(order_S), batch_size):
            row_B = order_S[start : start + batch_size]
            yield SequenceBatch(
                self._history_SL.index_select(0, row_B),
                self._length_S.index_select(0, row_B),
                self._target_S.index_select(0, row_B),
            )


class _Resident:
    """The arrays of a prepared dataset, decoded on first use and mapped into this process."""

    def __init__(self, dataset: PreparedDataset) -> None:
        self._dataset = dataset
        self._folder = dataset.folder / "resident" / dataset.hash[:16]
        if not self._folder.is_dir():
            with exclusive(dataset.folder.parent / f".{dataset.folder.name}.resident.lock"):
                if not self._folder.is_dir():
                    _decode(dataset, self._folder)

    def index(self, split: str) -> Tensor:
        """Return the row numbers of a split, int32 [S]."""
        return _mapped(self._folder / f"split.{split}.npy")

    def matrix(self, table: str, kind: str) -> Tensor:
        """Return a table's columns of one kind side by side: `integer` int32 or `float` float32 [R, …]."""
        return _mapped(self._folder / f"{table}.{kind}.npy")

    def column(self, table: str, name: str) -> Tensor:
        """Return one column [R] or [R, L]."""
        kind, first, width, is_list = self.places(table)[name]
        matrix = self.matrix(table, kind)
        return matrix[:, first : first + width] if is_list else matrix[:, first]

    def places(self, table: str) -> dict[str, tuple[str, int, int, bool]]:
        """Return where each column of a table lies: matrix, first column, width, whether it is a list."""
        with np.load(self._folder / f"{table}.places.npz", allow_pickle=False) as archive:
            return {
                str(name): (str(kind), int(first), int(width), bool(is_list))
                for name, kind, first, width, is_list in zip(
                    archive["name"], archive["kind"], archive["first"], archive["width"], archive["list"], strict=True
                )
            }

    def items(self) -> dict[str, Tensor]:
        """Return the columns of the item table."""
        return {name: self.column("items", name) for name in self.places("items")}


class _Block:
    """Columns of one kind that a batch takes together."""

    def __init__(self, arrays: _Resident, table: str, names: Sequence[str], kind: str = "integer") -> None:
        places = arrays.places(table) if names else {}
        wrong = [name for name in names if name not in places or places[name][0] != kind]
        if wrong:
            raise DataError(f"{table}.parquet: no {kind} column {wrong[0]!r}; prepare the dataset again")
        self._places = {name: places[name] for name in names}
        self._matrix = arrays.matrix(table, kind) if names else torch.empty(0)

    def take(self, row_B: Tensor) -> dict[str, Tensor]:
        """Return the columns' values at these rows."""
        if not self._places:
            return {}
        taken = self._matrix.index_select(0, row_B)
        return {
            name: taken[:, first : first + width] if is_list else taken[:, first]
            for name, (_, first, width, is_list) in self._places.items()
        }


def _check_split(dataset: PreparedDataset, split: str, purpose: Purpose) -> None:
    splits: dict[str, SplitSchema] = dataset.schema.splits
    if split not in splits:
        raise InputError(f"{dataset.name}: no split {split!r}{did_you_mean(split, splits)}")
    if purpose == "search" and not splits[split].search:
        raise TestDataError(f"{dataset.name}: a search may not read {split!r}; only repeats do")


def _recounted(arrays: _Resident, dataset: PreparedDataset, splits: tuple[str, ...]) -> Tensor:
    """Count the items in these splits' rows, on the scale of the prepared counts (the most frequent item's rows)."""
    item_R = arrays.column("rows", next(field.name for field in dataset.fields if field.role == "item_id")).numpy()
    most = np.bincount(item_R).max()
    rows = np.concatenate([arrays.index(split).numpy() for split in splits])
    return torch.from_numpy((np.bincount(item_R[rows], minlength=dataset.schema.items) / most).astype(np.float32))


def _ordered(index_S: Tensor, shuffle_seed: int | None) -> Tensor:
    if shuffle_seed is None:
        return index_S
    generator = torch.Generator().manual_seed(shuffle_seed)
    return index_S.index_select(0, torch.randperm(len(index_S), generator=generator))


def _mapped(path: Path) -> Tensor:
    """Map an array; copy-on-write, which shares the pages as long as nobody writes."""
    try:
        return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete {path.parent}") from None


def _decode(dataset: PreparedDataset, folder: Path) -> None:
    partial = folder.with_name(f".{folder.name}.{uuid.uuid4().hex[:8]}.partial")
    tables = ("rows", "users", "items") if dataset.schema.kind == "interactions" else tuple(dataset.schema.splits)
    try:
        partial.mkdir(parents=True)
        for table in tables:
            columns = read_table(dataset.folder / f"{table}.parquet")
            _write_matrices(partial, table, columns)
            if table == "rows":
                _write_splits(partial, dataset, columns)
        partial.rename(folder)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error}); make room there") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_matrices(folder: Path, table: str, columns: dict[str, NDArray[Any]]) -> None:
    places: list[tuple[str, str, int, int, bool]] = []
    for kind, dtype in (("integer", np.int32), ("float", np.float32)):
        chosen = {name: values for name, values in columns.items() if values.dtype == dtype}
        if not chosen:
            continue
        parts = [values.reshape(len(values), -1) for values in chosen.values()]
        first = 0
        for (name, values), part in zip(chosen.items(), parts, strict=True):
            places.append((name, kind, first, part.shape[1], values.ndim > 1))
            first += part.shape[1]
        np.save(folder / f"{table}.{kind}.npy", np.concatenate(parts, axis=1))
    names, kinds, firsts, widths, lists = zip(*places, strict=True)
    np.savez(folder / f"{table}.places.npz", name=names, kind=kinds, first=firsts, width=widths, list=lists)


def _write_splits(folder: Path, dataset: PreparedDataset, columns: dict[str, NDArray[Any]]) -> None:
    for split, schema in dataset.schema.splits.items():
        index = np.flatnonzero(columns[schema.column] == schema.code).astype(np.int32)
        if len(index) != schema.rows:
            raise DataError(
                f"{dataset.name}: {split} has {len(index):,} rows, {schema.rows:,} expected; prepare it again"
            )
        np.save(folder / f"split.{split}.npy", index)
