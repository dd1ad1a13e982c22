"""The plain tables below a table: the order, paired differences, each cell's statistics, and how it was run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from harness.statistics import Difference
from harness.tables.layout import Block, Entry
from harness.tables.model import Cell, Measurement, Provenance, Table
from harness.tables.wording import KINDS, interval, metric_title, number, p_value, signed, value

GridCell = str | tuple[Entry, ...]
"""A text; or the parts of one, with spaces between them, where some have a footnote."""


@dataclass(frozen=True)
class Grid:
    """A plain table of texts under a heading; `note` is the number of the heading's footnote, 0 for none."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[GridCell, ...], ...]
    note: int = 0


def grids(table: Table, block: Block, *, every_cell: bool = True) -> list[Grid]:
    """Return the order, paired differences, each cell's statistics, and how it was run; those that have rows."""
    if table.spec.kind == "statistics":
        return []
    found: list[Grid] = []
    for dataset in block.datasets:
        found += [order(table, dataset, block.notes), *differences(table, dataset, block.notes)]
        found += [statistics(table, dataset)] if every_cell else []
        found.append(runs(table, dataset))
    return [grid for grid in found if grid.rows]


def order(table: Table, dataset: str, notes: Sequence[str] = ()) -> Grid:
    """Return whether the order that the paper claims holds, judged by paired intervals.

    A row whose mark is among the footnotes `notes` has its number.
    """
    rows = []
    for claim in table.order:
        if claim.dataset == dataset:
            m, d = claim.metric, claim.difference
            beaten = ("> the rest",) if claim.over_rest else (">", claim.other)
            closest = _marked(table, notes, claim.other) if claim.over_rest else ""
            figures = (_pairs(d), signed(m, d.mean), f"{signed(m, d.low)} … {signed(m, d.high)}")
            stated = (metric_title(m), _marked(table, notes, claim.row, *beaten), KINDS[claim.selection])
            rows.append((*stated, closest, *figures, claim.verdict))
    header = ("metric", "order", "parameters", "closest", "pairs", "difference", "95 % interval", "verdict")
    return Grid("Order: holds where the paired interval lies above 0, fails where below", header, tuple(rows))


def _marked(table: Table, notes: Sequence[str], *parts: str) -> GridCell:
    """Return names of rows, and what stands between them, each name with the number of its mark's footnote."""
    entries = tuple(Entry(part, note=_note(table, notes, part)) for part in parts)
    return entries if any(entry.note for entry in entries) else " ".join(parts)


def _note(table: Table, notes: Sequence[str], name: str) -> int:
    """Return the number of the footnote with a row's mark; 0 where there is none, or no row of this name."""
    rows = (*table.spec.rows, *table.spec.written_rows)  # a reference may be a line of a curve
    mark = next((row.mark for row in rows if row.name == name), "")
    return notes.index(mark) + 1 if mark in notes else 0


def _pairs(difference: Difference) -> str:
    pairs = difference.pairs.removesuffix("s") if difference.n == 1 else difference.pairs
    return f"{difference.n} {pairs}"


def differences(table: Table, dataset: str, notes: Sequence[str] = ()) -> list[Grid]:
    """Return the paired differences to each reference row, with the numbers of the rows' footnotes."""
    return [_differences(table, dataset, reference, notes) for reference in table.spec.references]


def _differences(table: Table, dataset: str, reference: str, notes: Sequence[str]) -> Grid:
    rows = []
    for c in table.comparisons:
        if (c.dataset, c.reference) == (dataset, reference):
            d = c.difference
            interval = f"{signed(c.metric, d.low)} … {signed(c.metric, d.high)}"
            figures = (signed(c.metric, d.mean), interval, p_value(d.p_value), p_value(c.holm), number(d.effect, 2))
            row = _marked(table, notes, c.row)
            rows.append((metric_title(c.metric), row, KINDS[c.selection], _pairs(d), *figures))
    header = ("metric", "row", "parameters", "pairs", "difference", "95 % interval", "p", "p (Holm)", "effect")
    at = f" at the same {table.spec.axis.parameter}" if table.spec.axis else ""
    title = f"Paired differences to {reference}{at}"
    return Grid(title, header, tuple(rows), _note(table, notes, reference))


def statistics(table: Table, dataset: str) -> Grid:
    """Return every statistic of the measured cells."""
    rows = []
    for row in table.spec.rows:
        for metric in table.spec.metrics:
            cell = table.cell(dataset, row.name, metric)
            for selection, measurement in cell.measured.items():
                if not measurement.summary.n and not measurement.summary.failed:
                    continue  # its trials have no such metric
                verdict = table.verdict(dataset, row.name, metric, selection)
                rows.append(
                    (row.name, metric_title(metric), KINDS[selection], *_figures(metric, cell, measurement), verdict)
                )
    seeds = ("n", "failed", "mean", "sd", "95 % of seeds", "min", "max", "error of test sample")
    header = ("row", "metric", "parameters", *seeds, "printed", "difference", "95 % of both", "verdict")
    return Grid("Every measured cell", header, tuple(rows))


def _figures(metric: str, cell: Cell, m: Measurement) -> tuple[str, ...]:
    s, judged = m.summary, m.agreement
    seeds = (value(metric, s.mean), value(metric, s.deviation), interval(metric, s.low, s.high))
    printed = value(metric, cell.published.value) if cell.published else "–"
    difference = signed(metric, s.mean - cell.published.value) if cell.published else "–"
    both = interval(metric, judged.low, judged.high) if judged else "–"
    extremes = (value(metric, s.minimum), value(metric, s.maximum), value(metric, m.sampling_error))
    return (str(s.n), str(s.failed), *seeds, *extremes, printed, difference, both)


def runs(table: Table, dataset: str) -> Grid:
    """Return how the rows were run: parameters, seeds, tuning budget.

    Times and memory differ from run to run, and a table does not: they are in TensorBoard.
    """
    rows = []
    for row in table.spec.rows:
        for run in table.provenance.get((dataset, row.name), ()):
            seeds = f"{len(run.seeds)} of {len(table.spec.seeds)}"
            rows.append((row.name, "; ".join(map(parameter_text, run.parameters)), budget(run), seeds))
    header = ("row", "parameters", "tuning", "finished seeds")
    return Grid("How each row was run", header, tuple(rows))


def budget(run: Provenance) -> str:
    """Say how parameters were chosen."""
    if run.selection == "published":
        return "published parameters"
    if not run.search_trials:
        return "starts from tuned parameters"
    failed = f", {run.search_failed} failed" if run.search_failed else ""
    return f"{run.search_trials} trials, {run.search_distinct} distinct{failed}, space {run.space_hash}"


def parameter_text(parameters: str) -> str:
    """Return JSON parameters as `name=value, …`."""
    return ", ".join(f"{name}={value}" for name, value in json.loads(parameters).items()) or "defaults"
