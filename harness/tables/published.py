"""`published.csv`: every cell that a paper prints, with the columns dataset, row, metric, value and flag."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.errors import InputError, did_you_mean
from harness.table_specs import TableSpec

COLUMNS = ("dataset", "row", "metric", "value", "flag")
Key = tuple[str, str, str]


@dataclass(frozen=True)
class PublishedCell:
    """A printed number, in the units of the paper; `flag` says what is wrong with it, if anything."""

    value: float
    flag: str = ""


def read_published(path: Path, spec: TableSpec) -> dict[Key, PublishedCell]:
    """Read what a paper prints, by (dataset, row, metric); nothing where there is no file.

    Raises:
        InputError: a column is missing, a value is no number, a cell stands twice, or the table does not ask for it.
    """
    if not path.exists():
        return {}
    try:
        lines = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    header = lines[0] if lines else []
    for column in COLUMNS:
        if column not in header:
            raise InputError(f"{path}, line 1: column {column!r} is missing; expected {','.join(COLUMNS)}")
    cells: dict[Key, PublishedCell] = {}
    for number, line in enumerate(lines[1:], start=2):
        if line:
            _add(cells, header, line, spec, f"{path}, line {number}")
    return cells


def _add(
    cells: dict[Key, PublishedCell], header: Sequence[str], line: Sequence[str], spec: TableSpec, where: str
) -> None:
    if len(line) != len(header):
        raise InputError(f"{where}: {len(line)} values for {len(header)} columns; quote texts that hold a comma")
    values = dict(zip(header, line, strict=True))
    key = values["dataset"], values["row"], values["metric"]
    asked = (("dataset", spec.datasets), ("row", [row.name for row in spec.rows]), ("metric", spec.metrics))
    for name, (column, known) in zip(key, asked, strict=True):
        _check_known(name, column, known, where)
    if key in cells:
        raise InputError(f"{where}: {' / '.join(key)} stands twice; keep one of them")
    cells[key] = PublishedCell(_number(values["value"], where), values["flag"].strip())


def _check_known(name: str, column: str, known: Iterable[str], where: str) -> None:
    if name not in known:
        raise InputError(f"{where}: the table asks for no {column} {name!r}{did_you_mean(name, known)}")


def _number(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where}: value {text!r} is not a number")
    return value
