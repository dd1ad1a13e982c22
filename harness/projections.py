"""`projection.parquet` of a table: what its picture shows of the item embeddings that trials learned.

One row a trial, of the table's first seed: the plane coordinates of some items, or the covariance of some dimensions.

Legend: N items shown, K dimensions shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from harness.errors import DataError, StoreError
from harness.whole_files import whole_file

FILE = "projection.parquet"
SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("row", pa.string()),
        ("selection", pa.string()),
        ("trial_id", pa.string()),
        ("width", pa.int64()),
        ("values", pa.list_(pa.float32())),
    ]
)


@dataclass(frozen=True)
class Projection:
    """What is shown of one trial: `values` float32 [N, 2], coordinates in the plane, or [K, K], a covariance."""

    dataset: str
    row: str
    selection: str
    trial_id: str
    values: NDArray[np.float32]

    @property
    def place(self) -> tuple[str, str, str]:
        """Where in the table it belongs."""
        return self.dataset, self.row, self.selection


def read_projections(path: Path) -> list[Projection]:
    """Read a table's projections; none where there is no file.

    Raises:
        DataError: the file is damaged or has other columns.
    """
    if not path.exists():
        return []
    remedy = "delete it and run the table again"
    try:
        missing = [name for name in SCHEMA.names if name not in pq.read_schema(path).names]
        rows = pq.read_table(path, schema=SCHEMA).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())}); {remedy}") from None
    if missing:
        raise DataError(f"{path}: lacks column {missing[0]!r}; {remedy}")
    return [
        Projection(
            dataset=row["dataset"],
            row=row["row"],
            selection=row["selection"],
            trial_id=row["trial_id"],
            values=np.array(row["values"], dtype=np.float32).reshape(-1, row["width"]),
        )
        for row in rows
    ]


def write_projections(path: Path, projections: Iterable[Projection]) -> None:
    """Write a table's projections, whole or not at all.

    Raises:
        StoreError: the file cannot be written.
    """
    columns = ("dataset", "row", "selection", "trial_id")
    rows = [
        {name: getattr(one, name) for name in columns} | {"width": one.values.shape[1], "values": one.values.ravel()}
        for one in sorted(projections, key=lambda one: one.place)
    ]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), partial, compression="zstd")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from None
