"""`measured.parquet` of a table: one row a trial, all that the table's statistics need.

A trial's place is its dataset, row, selection and seed. The same trial may stand at two places (published and tuned
parameters can coincide), and a place has one trial.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.parquet as pq

from harness.errors import DataError, StoreError
from harness.metrics.calibration import Reliability
from harness.training_curve import TrainingCurve
from harness.whole_files import whole_file

Place = tuple[str, str, str, int]

SCHEMA = pa.schema(
    [
        ("dataset", pa.string()),
        ("row", pa.string()),
        ("selection", pa.string()),
        ("seed", pa.int64()),
        ("trial_id", pa.string()),
        ("status", pa.string()),
        ("error", pa.string()),
        ("parameters", pa.string()),
        ("setup", pa.string()),
        ("metrics", pa.map_(pa.string(), pa.float64())),
        ("ranks", pa.list_(pa.int32())),
        ("data_hash", pa.string()),
        ("data_note", pa.string()),
        ("code_hash", pa.string()),
        ("wall_seconds", pa.float64()),
        ("cpu_seconds", pa.float64()),
        ("peak_memory_bytes", pa.int64()),
        ("threads", pa.int64()),
        ("search_trials", pa.int64()),
        ("search_distinct", pa.int64()),
        ("search_failed", pa.int64()),
        ("space_hash", pa.string()),
        ("environment", pa.string()),
        (
            "curve",
            pa.struct(
                [
                    ("epochs", pa.list_(pa.int32())),
                    ("seconds", pa.list_(pa.float64())),
                    ("values", pa.list_(pa.float64())),
                ]
            ),
        ),
        ("reliability", pa.struct([(name, pa.list_(pa.float64())) for name in ("predicted", "observed", "rows")])),
    ]
)
ADDED_LATER = {"setup": "", "search_failed": 0, "environment": "", "curve": None, "reliability": None}
"""Columns that older files lack, and what they hold there."""


@dataclass(frozen=True)
class Measured:
    """A trial of a table.

    `metrics` are named as trials name them (`test/cold/auc`). `ranks` are the targets' 1-based ranks by test user,
    None where the task ranks nothing. `parameters` is JSON text; `setup` is the hash of these, of versions, threads and
    all else that the seeds of a row have in common, empty of trials from before it was kept. Of a tuned row,
    `search_trials` is the size of its study, `search_distinct` how many different parameters it tried, `search_failed`
    how many of the trials failed (0 of those from before it was kept), `space_hash` what it searched. Times are in
    seconds. `environment` says where a trial ran whose times are what it measures; it is empty of all others. `curve`
    is how the validation metric went, `reliability` how true probabilities were on the test rows, each of tables that
    show it alone.
    """

    dataset: str
    row: str
    selection: Literal["published", "tuned"]
    seed: int
    trial_id: str
    status: Literal["finished", "failed"]
    error: str = ""
    parameters: str = "{}"
    setup: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    ranks: tuple[int, ...] | None = None
    data_hash: str = ""
    data_note: str = ""
    code_hash: str = ""
    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    peak_memory_bytes: int = 0
    threads: int = 1
    search_trials: int = 0
    search_distinct: int = 0
    search_failed: int = 0
    space_hash: str = ""
    environment: str = ""
    curve: TrainingCurve | None = None
    reliability: Reliability | None = None

    @property
    def place(self) -> Place:
        """Where in the table the trial stands."""
        return self.dataset, self.row, self.selection, self.seed


def read_measured(path: Path) -> list[Measured]:
    """Read a table's trials; none where there is no file.

    Raises:
        DataError: the file is damaged or has other columns.
    """
    if not path.exists():
        return []
    remedy = "restore it, or delete it and run the table again"
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: cannot be read ({' '.join(str(error).split())}); {remedy}") from None
    for name, value in ADDED_LATER.items():
        if name not in table.column_names:
            table = table.append_column(name, pa.array([value] * len(table), SCHEMA.field(name).type))
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    if missing:
        raise DataError(f"{path}: lacks column {missing[0]!r}; {remedy}")
    columns = {field.name: _typed(table, field, f"{path}: column {field.name!r}", remedy) for field in SCHEMA}
    return [_from_row(row) for row in pa.table(columns, schema=SCHEMA).to_pylist()]


def _typed(table: pa.Table, field: pa.Field, where: str, remedy: str) -> pa.ChunkedArray:
    column = table.column(field.name)
    try:
        return column.cast(field.type)
    except pa.ArrowException:
        raise DataError(f"{where} holds {column.type}, {field.type} expected; {remedy}") from None


def merge_measured(old: Iterable[Measured], new: Iterable[Measured]) -> list[Measured]:
    """Return all trials, a new one in place of an old one at the same place; nothing else is lost.

    A trial that finished stays when it has failed elsewhere, as where the memory was short.
    """
    merged = {record.place: record for record in old}
    for record in new:
        before = merged.get(record.place)
        if before is None or (before.trial_id, before.status, record.status) != (record.trial_id, "finished", "failed"):
            merged[record.place] = record
    return [merged[place] for place in sorted(merged)]


def write_measured(path: Path, records: Iterable[Measured]) -> None:
    """Write a table's trials, whole or not at all; equal trials give equal bytes, whatever their order.

    Raises:
        StoreError: the file cannot be written.
    """
    rows = [_to_row(record) for record in sorted(records, key=lambda record: (record.place, record.trial_id))]
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as partial:
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), partial, compression="zstd")
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror or error})") from None


def _to_row(record: Measured) -> dict[str, object]:
    return {**asdict(record), "metrics": sorted(record.metrics.items())}


def _from_row(row: dict[str, object]) -> Measured:
    values = {item.name: row[item.name] for item in fields(Measured)}
    values["metrics"] = dict(row["metrics"] or ())  # type: ignore[call-overload]
    values["ranks"] = None if row["ranks"] is None else tuple(row["ranks"])  # type: ignore[arg-type]
    for name, cls in (("curve", TrainingCurve), ("reliability", Reliability)):
        parts = row[name]
        values[name] = parts and cls(**{part: tuple(v) for part, v in parts.items()})  # type: ignore[attr-defined]
    return Measured(**values)  # type: ignore[arg-type]
