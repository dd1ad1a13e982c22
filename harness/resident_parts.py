"""A dataset in parts, held in memory all the same: small data, or a table that forces it.

Legend: R rows of the dataset, S rows of a split, B rows of a batch, Q rows that hold four quarters, I items, C columns.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from harness.datasets.derived import unchanged
from harness.datasets.parts import PARTS, QUARTERS, read_groups, rows_of_groups
from harness.datasets.prepared import PreparedDataset
from harness.errors import DataError, InputError
from harness.feed import COUNT, ResidentRows, shuffled
from harness.packed_columns import LABEL, item_name, joined_columns
from harness.resident_tables import Table, mapped, mapped_table, resident_folder
from harness.streaming import read_items
from trainables.base import CtrBatch, ItemTable


def open_resident_parts(
    dataset: PreparedDataset, split: str, count_splits: tuple[str, ...] | None = None
) -> ResidentParts:
    """Open a split of a dataset in parts; who calls this has checked that it may be read.

    Raises:
        DataError: the dataset's files are missing, damaged or other rows' by now, or its folder cannot be written.
    """
    folder = resident_folder(dataset, _decode)
    with unchanged(dataset):
        items = read_items(dataset)
    counted_I = None if count_splits is None else items.share_of(count_splits)
    rows = mapped_table(folder / "rows.npy", joined_columns(dataset.fields))
    row_S = np.asarray(mapped(folder / f"split.{split}.npy"))
    return ResidentParts(dataset, split, rows, row_S, items.table(counted_I), counted_I)


class ResidentParts(ResidentRows):
    """A split of joined rows in shared memory; a `trainables.base.RowSource`."""

    def __init__(
        self,
        dataset: PreparedDataset,
        split: str,
        rows: Table,
        row_S: NDArray[np.int32],
        items: ItemTable,
        counted_I: NDArray[np.float32] | None,
    ) -> None:
        self._names, self._item = [field.name for field in dataset.fields], item_name(dataset.fields)
        self._dataset, self._split = dataset, split
        self._rows, self._row_S, self._item_table, self._counted_I = rows, row_S, items, counted_I

    def item_quarters(self, seed: int) -> tuple[ResidentParts, ResidentParts, ResidentParts, ResidentParts]:
        """Return four equal quarters of every item's rows by time, aligned by item; see `RowSource`.

        Raises:
            InputError: the dataset was prepared without the quarters of this split.
        """
        path = resident_folder(self._dataset, _decode) / f"quarters.{self._split}.npy"
        if not path.is_file():
            raise InputError(f"{self._dataset.name}: has no quarters of {self._split!r}; only base rows are quartered")
        four_QC: NDArray[np.int32] = mapped(path)
        order_Q = shuffled(np.arange(len(four_QC), dtype=np.int32), seed)
        first, second, third, fourth = (self._quarter(four_QC, quarter, order_Q) for quarter in range(4))
        return first, second, third, fourth

    def _quarter(self, four_QC: NDArray[np.int32], quarter: int, order_Q: NDArray[np.int32]) -> ResidentParts:
        layout = joined_columns(self._dataset.fields)
        own_QC = four_QC[:, quarter * layout.width : (quarter + 1) * layout.width]
        rows = Table(own_QC, layout)
        return ResidentParts(self._dataset, self._split, rows, order_Q, self._item_table, self._counted_I)

    def batch(self, row_B: NDArray[np.int32]) -> CtrBatch:
        """Return the rows of these numbers, which count from 0 in the order of the dataset's atoms."""
        rows_BC = self._rows.matrix.take(row_B, axis=0)
        columns = self._rows.columns(rows_BC)
        label_B = columns[LABEL.name]
        if self._counted_I is not None and COUNT in columns:
            columns[COUNT] = torch.from_numpy(self._counted_I.take(columns[self._item].numpy()))
        return CtrBatch({name: columns[name] for name in self._names}, label_B)


def _decode(dataset: PreparedDataset, folder: Path) -> None:
    """Write the rows of all atoms one below the other, and which of them lie in each split."""
    atoms = dict.fromkeys(atom for split in dataset.schema.splits.values() for atom in split.atoms)
    files = {atom: sorted((dataset.folder / PARTS / atom).glob("part-*.parquet")) for atom in atoms}
    rows_of_atom = {atom: sum(sum(rows_of_groups(path)) for path in paths) for atom, paths in files.items()}
    first_of_atom = dict(zip(atoms, np.cumsum([0, *rows_of_atom.values()]).tolist(), strict=False))
    width = joined_columns(dataset.fields).width
    _write(folder / "rows.npy", [path for paths in files.values() for path in paths], width)
    for split, schema in dataset.schema.splits.items():
        ranges = [np.arange(rows_of_atom[atom], dtype=np.int32) + first_of_atom[atom] for atom in schema.atoms]
        row_S = np.concatenate(ranges) if ranges else np.empty(0, dtype=np.int32)
        if len(row_S) != schema.rows:
            raise DataError(
                f"{dataset.folder}: split {split} has {len(row_S):,} rows, schema.json says {schema.rows:,};"
                f" delete the folder and prepare {dataset.name} again"
            )
        np.save(folder / f"split.{split}.npy", row_S.astype(np.int32), allow_pickle=False)
    for quartered in sorted((dataset.folder / QUARTERS).glob("*")):
        _write(folder / f"quarters.{quartered.name}.npy", sorted(quartered.glob("part-*.parquet")), 4 * width)


def _write(path: Path, files: Sequence[Path], width: int) -> None:
    """Write the rows of these files as one array, never more than a file of them in memory."""
    sizes = [rows_of_groups(file) for file in files]
    matrix = np.lib.format.open_memmap(path, "w+", np.int32, (sum(sum(groups) for groups in sizes), width))
    first = 0
    for file, groups in zip(files, sizes, strict=True):
        after = first + sum(groups)
        matrix[first:after] = read_groups(file, range(len(groups)))
        first = after
    matrix.flush()
