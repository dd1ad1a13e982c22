"""A table as CSV: one line a cell and selection, with every statistic at full precision."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping

from harness.tables.model import Cell, Comparison, Measurement, Table

COLUMNS = (
    "dataset",
    "row",
    "metric",
    "selection",
    "published",
    "published_place",
    "published_flag",
    "n",
    "failed",
    "mean",
    "sd",
    "low",
    "high",
    "min",
    "max",
    "place",
    "sampling_error",
    "difference",
    "combined_error",
    "combined_low",
    "combined_high",
    "verdict",
    "unstable",
    "paired_reference",
    "pairs",
    "paired_n",
    "paired_difference",
    "paired_low",
    "paired_high",
    "p_value",
    "p_holm",
    "effect",
)

Value = str | int | float


def to_csv(table: Table) -> str:
    """Return the table in long form; what is unknown or does not apply is empty. `low` and `high` bound 95 %.

    A cell that is compared with several references has a line for each.
    """
    compared: dict[tuple[str, str, str, str], list[Comparison]] = {}
    for c in table.comparisons:
        compared.setdefault((c.dataset, c.row, c.metric, c.selection), []).append(c)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for (dataset, row, metric), cell in table.cells.items():
        for selection in cell.measured or ("",):
            line: dict[str, Value] = {"dataset": dataset, "row": row, "metric": metric, "selection": selection}
            line |= _printed(cell) | {"verdict": table.verdict(dataset, row, metric, selection)}
            if selection:
                line |= _measured(cell.measured[selection])
            for comparison in compared.get((dataset, row, metric, selection), (None,)):
                writer.writerow(_without_nan(line | (_compared(comparison) if comparison else {})))
    return stream.getvalue()


def _printed(cell: Cell) -> dict[str, Value]:
    if cell.published is None:
        return {}
    flag = cell.published.flag
    return {"published": cell.published.value, "published_place": cell.published_place, "published_flag": flag}


def _measured(m: Measurement) -> dict[str, Value]:
    s = m.summary
    line: dict[str, Value] = {"n": s.n, "failed": s.failed, "mean": s.mean, "sd": s.deviation, "low": s.low}
    line |= {"high": s.high, "min": s.minimum, "max": s.maximum, "place": m.place, "sampling_error": m.sampling_error}
    if m.agreement:
        a = m.agreement
        line |= {"difference": a.difference, "combined_error": a.error, "combined_low": a.low, "combined_high": a.high}
        line |= {"unstable": "yes" if a.unstable else "no"}
    return line


def _compared(c: Comparison) -> dict[str, Value]:
    d = c.difference
    line: dict[str, Value] = {"paired_reference": c.reference, "pairs": d.pairs, "paired_n": d.n}
    line |= {"paired_difference": d.mean, "paired_low": d.low, "paired_high": d.high}
    return line | {"p_value": d.p_value, "p_holm": c.holm, "effect": d.effect}


def _without_nan(line: Mapping[str, Value]) -> dict[str, Value]:
    return {key: "" if isinstance(value, float) and math.isnan(value) else value for key, value in line.items()}
