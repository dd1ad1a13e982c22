"""Pictures of a table, drawn with matplotlib's objects, so that no global state is touched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.tables.layout import KINDS, metric_title
from harness.tables.model import RELATIVE, SELECTIONS, Table

# Okabe & Ito's palette: told apart under every common kind of colour blindness.
COLOURS = {"published": "#0072B2", "tuned": "#D55E00"}
PRINTED = "#000000"
PANEL_WIDTH, LINE_HEIGHT = 3.1, 0.34


def plot_seeds(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw every seed of the measured cells, their mean with its 95 % interval, and the printed value.

    One line of panels a dataset, one panel a metric (RelaImpr left out: it is the AUC on another scale), one line a
    method. Without `datasets`, all that have a measurement are drawn.
    """
    metrics = [metric for metric in table.spec.metrics if not metric.endswith(RELATIVE)]
    wanted = table.spec.datasets if datasets is None else datasets
    drawn = {dataset: rows for dataset in wanted if (rows := _measured_rows(table, dataset))}
    if not drawn:
        return _empty(table)
    lines = [len(rows) * len(_selections(table, dataset)) for dataset, rows in drawn.items()]
    heights = [LINE_HEIGHT * count + 0.9 for count in lines]
    figure = Figure(
        figsize=(PANEL_WIDTH * len(metrics) + 1.2, sum(heights) + 0.9), facecolor="white", layout="constrained"
    )
    grid = figure.subplots(len(drawn), len(metrics), squeeze=False, sharey="row", height_ratios=heights)
    for axes, (dataset, rows) in zip(grid, drawn.items(), strict=True):
        for panel, metric in zip(axes, metrics, strict=True):
            _panel(panel, table, dataset, metric, rows)
        axes[0].set_ylabel(dataset, fontweight="bold")
    figure.suptitle(table.spec.title, fontweight="bold")
    used = [s for s in SELECTIONS if any(s in _selections(table, dataset) for dataset in drawn)]
    figure.legend(handles=_legend(used), loc="outside lower center", ncols=4, frameon=False)
    return figure


def _panel(panel: Any, table: Table, dataset: str, metric: str, rows: Sequence[str]) -> None:
    selections = _selections(table, dataset)
    for line, row in enumerate(rows):
        cell = table.cell(dataset, row, metric)
        for place, selection in enumerate(selections):
            if selection in cell.measured:
                y = line + (place - (len(selections) - 1) / 2) * 0.36
                _measurement(
                    panel, list(cell.measured[selection].values.values()), cell.measured[selection], y, selection
                )
        if cell.published:
            panel.plot(
                cell.published.value, line, marker="D", markersize=7, color="none", markeredgecolor=PRINTED, zorder=5
            )
    panel.set_yticks(range(len(rows)), rows)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_title(metric_title(metric), fontsize="medium")
    panel.grid(axis="x", color="#dddddd", linewidth=0.6)
    panel.margins(x=0.12)
    panel.locator_params(axis="x", nbins=5)
    panel.tick_params(axis="y", length=0)
    panel.set_axisbelow(True)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)


def _measurement(panel: Any, values: Sequence[float], measurement: Any, y: float, selection: str) -> None:
    if not values:
        return
    colour, summary = COLOURS[selection], measurement.summary
    # The seeds fan out a little so that equal values stay visible.
    fan = np.linspace(-0.07, 0.07, len(values)) if len(values) > 1 else np.zeros(1)
    panel.scatter(values, y + fan, s=14, color=colour, alpha=0.55, linewidths=0, zorder=2)
    if not math.isnan(summary.half_width):
        panel.plot([summary.low, summary.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=3)
    panel.plot(summary.mean, y, marker="|", markersize=13, markeredgewidth=2.2, color=colour, zorder=4)


def _measured_rows(table: Table, dataset: str) -> list[str]:
    rows = [row.name for row in table.spec.rows]
    return [row for row in rows if any(table.cell(dataset, row, metric).measured for metric in table.spec.metrics)]


def _selections(table: Table, dataset: str) -> list[str]:
    runs = [run.selection for row in table.spec.rows for run in table.provenance.get((dataset, row.name), ())]
    return [selection for selection in SELECTIONS if selection in runs]


def _legend(selections: Sequence[str]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=COLOURS[s], linewidth=2.2, marker="|", markersize=11, markeredgewidth=2.2, label=KINDS[s])
        for s in selections
    ]
    seeds = Line2D([], [], color="#777777", marker="o", markersize=4, alpha=0.6, linestyle="none", label="one seed")
    printed = Line2D([], [], color="none", marker="D", markeredgecolor=PRINTED, markersize=7, label="paper")
    return [*handles, seeds, printed]


def _empty(table: Table) -> Figure:
    figure = Figure(figsize=(7, 1.6), facecolor="white")
    figure.text(0.5, 0.5, f"{table.spec.title}\nnothing measured yet", ha="center", va="center")
    return figure
