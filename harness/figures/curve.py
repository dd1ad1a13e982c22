"""A metric along the values of a parameter: every seed, their mean and its interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib import transforms
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.figures.style import (
    LINE_STYLES,
    MARKERS,
    PALETTE,
    PRINTED,
    bare,
    drawn_datasets,
    drawn_metrics,
    empty,
    plainly_spaced,
    selections,
    titled,
    with_legend,
)
from harness.table_rows import Axis, Point
from harness.tables.model import SELECTIONS, Measurement, Table
from harness.tables.wording import KINDS, metric_title

PANEL_WIDTH, PANEL_HEIGHT = 3.4, 3.0


def plot_curve(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw each row's mean along the axis with its 95 % interval, every seed, and the printed value where there is one.

    One line of panels a dataset, one panel a metric (see `drawn_metrics`). Rows off the axis are level lines. Where a
    table compares with a line, the paired differences to it are drawn below, but of rows beyond the paper.
    """
    metrics = drawn_metrics(table)
    drawn, axis = drawn_datasets(table, datasets), table.spec.axis
    if not drawn or axis is None:
        return empty(table)
    kinds = (_panel, _differences) if _compared(table) else (_panel,)
    height = PANEL_HEIGHT * (1 + 0.8 * (len(kinds) - 1)) * len(drawn)
    figure = Figure(figsize=(PANEL_WIDTH * len(metrics) + 0.4, height + 1.1), facecolor="white", layout="constrained")
    grid = iter(figure.subplots(len(kinds) * len(drawn), len(metrics), squeeze=False))
    for dataset in drawn:
        for kind, axes in zip(kinds, grid, strict=False):
            for panel, metric in zip(axes, metrics, strict=True):
                kind(panel, table, dataset, metric, axis)
            label = dataset if kind is _panel else f"difference to\n{' and '.join(table.spec.references)}"
            axes[0].set_ylabel(label, fontweight="bold" if kind is _panel else "normal")
    titled(figure, table.spec.title)
    with_legend(figure, _legend(table, drawn))
    return figure


def _compared(table: Table) -> dict[str, str]:
    """Return the lines of whose points differences are drawn, by the points' names."""
    beyond = {row.name for row in table.spec.written_rows if row.beyond}
    lines = {row.name: row.line for row in table.spec.rows if isinstance(row, Point) and row.line not in beyond}
    compared = {comparison.row for comparison in table.comparisons}
    return {name: line for name, line in lines.items() if name in compared}


def _differences(panel: Any, table: Table, dataset: str, metric: str, axis: Axis) -> None:
    """Draw the mean paired differences with their 95 % intervals, those of different lines a little apart."""
    line_of, value_of = _compared(table), {row.name: row.value for row in table.spec.rows if isinstance(row, Point)}
    panel.axhline(0, color="#777777", linewidth=0.8)
    drawn = 0
    for selection in selections(table, dataset):
        for name, colour, marker in _lines(table):
            found = [
                (value_of[c.row], c.difference)
                for c in table.comparisons
                if (c.dataset, c.metric, c.selection, line_of.get(c.row)) == (dataset, metric, selection, name)
            ]
            if not found:
                continue
            means = [difference.mean for _, difference in found]
            errors = [[d.mean - d.low for _, d in found], [d.high - d.mean for _, d in found]]
            style = {"color": colour, "marker": marker, "linestyle": LINE_STYLES[selection]}
            panel.errorbar(
                [_beside(x, axis, drawn) for x, _ in found],
                means,
                yerr=errors,
                linewidth=1.2,
                elinewidth=1.4,
                markersize=4,
                capsize=2,
                **style,
            )
            drawn += 1
    _along(panel, table, axis)


def _beside(value: float, axis: Axis, place: int) -> float:
    """Return where a line's point is drawn, each a hundredth of the axis further right than the line's before it."""
    low, high = min(axis.values), max(axis.values)
    share = 0.01 * place
    return float(value * (high / low) ** share if axis.log else value + share * (high - low))


def _panel(panel: Any, table: Table, dataset: str, metric: str, axis: Axis) -> None:
    for selection in selections(table, dataset):
        for name, colour, marker in _lines(table):
            points = _points(table, name)
            known = [(x, m) for x, row in points if (m := table.cell(dataset, row, metric).measured.get(selection))]
            known = [(x, m) for x, m in known if m.summary.n]
            if known and not points[0][0]:
                _level(panel, known[0][1], colour, selection)
            elif known:
                _line(panel, known, colour, marker, selection)
    for row in table.spec.rows:
        cell = table.cell(dataset, row.name, metric)
        if isinstance(row, Point) and cell.published:
            panel.plot(row.value, cell.published.value, marker="D", color="none", markeredgecolor=PRINTED, zorder=5)
    panel.set_title(metric_title(metric), fontsize="medium")
    _along(panel, table, axis)


def _along(panel: Any, table: Table, axis: Axis) -> None:
    """Finish a panel over the parameter's values."""
    if axis.log:
        panel.set_xscale("log")
        panel.set_xticks(axis.values, [f"{value:g}" for value in axis.values], fontsize="small")
        panel.set_xticks([], minor=True)
    panel.set_xlabel(axis.parameter)
    panel.locator_params(axis="y", nbins=5)
    if not axis.log:
        plainly_spaced(panel, "x", table.spec)
    bare(panel, "y")


def _line(
    panel: Any, known: Sequence[tuple[float | None, Measurement]], colour: str, marker: str, selection: str
) -> None:
    xs, means = [x for x, _ in known], [m.summary.mean for _, m in known]
    for x, m in known:
        beside = transforms.offset_copy(panel.transData, panel.figure, x=5, units="points")
        values = list(m.values.values())
        panel.scatter([x] * len(values), values, s=14, color=colour, alpha=0.5, linewidths=0, transform=beside)
    halves = [0.0 if math.isnan(m.summary.half_width) else m.summary.half_width for _, m in known]
    style = {"color": colour, "marker": marker, "linestyle": LINE_STYLES[selection]}
    panel.errorbar(xs, means, yerr=halves, linewidth=1.4, elinewidth=1.6, markersize=5, capsize=2.5, zorder=3, **style)


def _level(panel: Any, m: Measurement, colour: str, selection: str) -> None:
    panel.axhline(m.summary.mean, color=colour, linewidth=1.4, linestyle=LINE_STYLES[selection], zorder=1)
    if not math.isnan(m.summary.half_width):
        panel.axhspan(m.summary.low, m.summary.high, color=colour, alpha=0.12, linewidth=0, zorder=0)


def _lines(table: Table) -> list[tuple[str, str, str]]:
    """Return the rows as they are written, with a colour and a marker."""
    names = [row.name for row in table.spec.written_rows]
    order = sorted(names, key=lambda name: table.spec.written_rows[names.index(name)].fixed)
    return [(name, PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]) for i, name in enumerate(order)]


def _points(table: Table, name: str) -> list[tuple[float | None, str]]:
    """Return a written row's places on the axis and the rows there; None for the place of one that has none."""
    points: list[tuple[float | None, str]] = []
    for row in table.spec.rows:
        if isinstance(row, Point) and row.line == name:
            points.append((row.value, row.name))
        elif row.name == name:
            points.append((None, row.name))
    return points


def _legend(table: Table, drawn: Sequence[str]) -> list[Line2D]:
    fixed = {row.name for row in table.spec.written_rows if row.fixed}
    handles = [
        Line2D([], [], color=colour, marker="" if name in fixed else marker, markersize=5, linewidth=1.4, label=name)
        for name, colour, marker in _lines(table)
        if any(table.provenance.get((dataset, row)) for dataset in drawn for _, row in _points(table, name))
    ]
    used = [s for s in SELECTIONS if any(s in selections(table, dataset) for dataset in drawn)]
    handles += [Line2D([], [], color="#777777", linestyle=LINE_STYLES[s], label=KINDS[s]) for s in used]
    handles.append(Line2D([], [], color="#777777", marker="o", markersize=4, linestyle="none", label="one seed"))
    if any(cell.published for cell in table.cells.values()):
        handles.append(Line2D([], [], color="none", marker="D", markeredgecolor=PRINTED, label="paper"))
    return handles
