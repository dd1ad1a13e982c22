"""Large interactions on disk: joined rows, packed into one int32 column, in many Parquet files a split.

A dataset of layout `parts` has, beside `schema.json` and `items.parquet`:

- `parts/<atom>/part-00000.parquet`, …: the rows. A split is made up of atoms, named in its schema: rows that lie in
  the same splits, of whatever kind, lie in one atom, so that no row is stored twice.
- `quarters/<split>/part-00000.parquet`, …: four rows of one item side by side, place k of its first, second, third and
  fourth quarter by time (see `trainables.base.RowSource.item_quarters`).

A file has the one column `row`, a fixed-size list of int32: every field in the schema's order, then the label; numbers
as the bits of their float32. A row group is what a reader fetches at once. One column of one type decodes to a matrix
without a copy for each field.

Legend: R rows, C columns of a packed row.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.errors import DataError
from trainables.base import Field

PACKED = "row"
"""The name of the one column."""

PARTS, QUARTERS = "parts", "quarters"
"""The folders inside a prepared dataset."""

ROWS_OF_GROUP = 65_536
ROWS_OF_PART = 1_048_576
"""Rows of a row group and of a file, at most."""


def packed_width(fields: Sequence[Field]) -> int:
    """Return C: the columns of a packed row of these fields, the label's included."""
    return sum(field.length for field in fields) + 1


def first_columns(fields: Sequence[Field]) -> tuple[int, ...]:
    """Return the column at which each field begins; the label is the last of the C."""
    return tuple(sum(field.length for field in fields[:position]) for position in range(len(fields)))


def write_part(path: Path, packed_RC: NDArray[np.int32]) -> None:
    """Write rows as one file of row groups."""
    values = pa.FixedSizeListArray.from_arrays(
        pa.array(np.ascontiguousarray(packed_RC).reshape(-1)), packed_RC.shape[1]
    )
    pq.write_table(
        pa.table({PACKED: values}),
        path,
        compression="lz4",
        use_dictionary=False,
        write_statistics=False,
        row_group_size=ROWS_OF_GROUP,
    )


def read_groups(path: Path, groups: Sequence[int]) -> NDArray[np.int32]:
    """Return the rows of some row groups of a file, one group after the other, int32 [R, C].

    Raises:
        DataError: the file is missing, damaged, or not one of packed rows.
    """
    try:
        with pq.ParquetFile(path) as file:
            return unpacked(file.read_row_groups(list(groups), columns=[PACKED], use_threads=False).column(PACKED))
    except (OSError, KeyError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read ({reason}); prepare the dataset again") from None


def rows_of_groups(path: Path) -> tuple[int, ...]:
    """Return the number of rows of each row group of a file.

    Raises:
        DataError: the file is missing or damaged.
    """
    try:
        metadata = pq.read_metadata(path)
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read ({reason}); prepare the dataset again") from None
    return tuple(metadata.row_group(group).num_rows for group in range(metadata.num_row_groups))


def unpacked(column: Any) -> NDArray[np.int32]:
    """Return an Arrow column of packed rows as a matrix [R, C], without a copy where it lies in one piece."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    matrices = [np.asarray(chunk.flatten()).reshape(len(chunk), column.type.list_size) for chunk in chunks]
    if len(matrices) == 1:
        return matrices[0]
    return np.concatenate(matrices) if matrices else np.empty((0, column.type.list_size), dtype=np.int32)


def part_files(folder: Path, atoms: Iterable[str]) -> list[Path]:
    """Return the files of these atoms of a prepared dataset, in the order of their names."""
    return [path for atom in atoms for path in sorted((folder / PARTS / atom).glob("part-*.parquet"))]
