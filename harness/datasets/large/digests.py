"""The digests of a prepared dataset's files, which its hash is made of; a file is read a part at a time.

Legend: R rows, C columns of a packed row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.datasets.large.formats import Columns
from harness.datasets.parts import read_groups, rows_of_groups
from harness.errors import DataError

ITEMS = "items.parquet"
_ITEMS_READ = 1 << 18


def digest_of(matrices: Iterable[NDArray[np.int32]]) -> str:
    """Return the SHA-256 of rows, one matrix after the other: their width, and their values as little-endian bytes."""
    digest = hashlib.sha256()
    for number, packed_RC in enumerate(matrices):
        if number == 0:
            digest.update(f"{packed_RC.shape[1]}\n".encode())
        digest.update(np.ascontiguousarray(packed_RC, dtype="<i4").data)
    return digest.hexdigest()


def part_digest(path: Path) -> tuple[int, str]:
    """Return the rows and the digest of a file that `write_rows` wrote, reading one row group at a time.

    Raises:
        DataError: the file is missing or damaged.
    """
    groups = rows_of_groups(path)
    return sum(groups), digest_of(read_groups(path, [group]) for group in range(len(groups)))


def items_digest(path: Path) -> tuple[int, str]:
    """Return the number of items and the digest of a file that `write_items` wrote, reading a part at a time.

    Raises:
        DataError: the file is missing or damaged.
    """
    digest = ColumnDigest()
    for columns in _item_columns(path):
        digest.update(columns)
    return digest.rows, digest.value()


def hash_of(digests: Mapping[str, str]) -> str:
    """Return the hash of a dataset: the SHA-256 of the digests of its files, in the order of their names."""
    lines = "".join(f"{name} {digest}\n" for name, digest in sorted(digests.items()))
    return hashlib.sha256(lines.encode()).hexdigest()


def _item_columns(path: Path) -> Iterator[Columns]:
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=_ITEMS_READ):
                yield {name: np.asarray(batch.column(name)) for name in batch.schema.names}
    except (OSError, pa.ArrowException) as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: cannot be read ({reason}); prepare the dataset again") from None


class ColumnDigest:
    """The digest of a table that arrives in parts: of each column by itself, so that no part's bounds show."""

    def __init__(self) -> None:
        self.rows = 0
        self._columns: dict[str, Any] = {}

    def update(self, columns: Columns) -> None:
        """Add rows."""
        for name, values in columns.items():
            known = self._columns.setdefault(name, hashlib.sha256(f"{values.dtype.str}\n".encode()))
            known.update(np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<")))
        self.rows += len(next(iter(columns.values())))

    def value(self) -> str:
        """Return the digest of all rows so far."""
        return hash_of({name: digest.hexdigest() for name, digest in self._columns.items()})
