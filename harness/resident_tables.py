"""A prepared dataset decoded once into plain arrays, which every process maps copy-on-write and nobody writes.

They lie under `<dataset>/resident/<hash>/`. Each table is one int32 matrix, numbers as the bits of their float32: a
batch costs one gather a table however many fields there are, and its columns are views of it.

Legend: R rows of a table, B rows of a batch, C columns of a matrix, L positions of a history.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from harness.datasets.derived import derived_folder
from harness.datasets.prepared import PreparedDataset
from harness.datasets.writing import read_table
from harness.errors import DataError
from harness.packed_columns import LABEL, PackedColumns, Place
from trainables.base import Field

USER_ID, ITEM_ID = "user_id", "item_id"
TABLE_OF_ROLE = {"user_id": "rows", "item_id": "rows", "context": "rows", "user": "users", "item": "items"}
SEQUENCE_COLUMNS = ("history", "length", "target")


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


def resident_folder(dataset: PreparedDataset, write: Callable[[PreparedDataset, Path], None]) -> Path:
    """Return the folder of the decoded arrays, decoding them first when no process has yet; see `derived_folder`."""
    return derived_folder(dataset, "resident", write, "decoded arrays")


def table_layouts(fields: Sequence[Field]) -> dict[str, PackedColumns]:
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


def decode(dataset: PreparedDataset, folder: Path) -> None:
    """Write the arrays of a prepared dataset: its tables and the rows of each split, or its sequences.

    Raises:
        DataError: the dataset's files are missing or damaged, or not as its schema says.
    """
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
    for name, layout in table_layouts(dataset.fields).items():
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
