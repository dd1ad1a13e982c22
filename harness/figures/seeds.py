"""Every seed of every row, one panel a metric: how most tables are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.figures.style import (
    PRINTED,
    SELECTION_COLOURS,
    bare,
    drawn_datasets,
    drawn_metrics,
    empty,
    plainly_spaced,
    selections,
    titled,
    with_legend,
)
from harness.record import INFERENCE
from harness.tables.model import SELECTIONS, Table
from harness.tables.wording import KINDS, metric_title

PANEL_WIDTH, LINE_HEIGHT = 3.1, 0.34


def plot_seeds(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw every seed of the measured cells, their mean with its 95 % interval, and the printed value.

    One line of panels a dataset, one panel a metric (see `drawn_metrics`), one line a method. Without `datasets`, all
    that have a measurement are drawn. Seconds beside other metrics are on a logarithmic scale.
    """
    metrics = drawn_metrics(table)
    drawn = {name: measured_rows(table, name) for name in drawn_datasets(table, datasets)}
    if not drawn:
        return empty(table)
    lines = [len(rows) * len(selections(table, dataset)) for dataset, rows in drawn.items()]
    heights = [LINE_HEIGHT * count + 0.9 for count in lines]
    figure = Figure(
        figsize=(PANEL_WIDTH * len(metrics) + 1.2, sum(heights) + 0.9), facecolor="white", layout="constrained"
    )
    grid = figure.subplots(len(drawn), len(metrics), squeeze=False, sharey="row", height_ratios=heights)
    for axes, (dataset, rows) in zip(grid, drawn.items(), strict=True):
        for panel, metric in zip(axes, metrics, strict=True):
            _panel(panel, table, dataset, metric, rows)
        axes[0].set_ylabel(dataset, fontweight="bold")
    titled(figure, table.spec.title)
    used = [s for s in SELECTIONS if any(s in selections(table, dataset) for dataset in drawn)]
    printed = any(cell.published for cell in table.cells.values())
    with_legend(figure, _legend(used, printed=printed))
    return figure


def _panel(panel: Any, table: Table, dataset: str, metric: str, rows: Sequence[str]) -> None:
    shown = selections(table, dataset)
    for line, row in enumerate(rows):
        cell = table.cell(dataset, row, metric)
        for place, selection in enumerate(shown):
            if selection in cell.measured:
                y = line + (place - (len(shown) - 1) / 2) * 0.36
                _measurement(
                    panel, list(cell.measured[selection].values.values()), cell.measured[selection], y, selection
                )
        if cell.published:
            panel.plot(
                cell.published.value, line, marker="D", markersize=7, color="none", markeredgecolor=PRINTED, zorder=5
            )
    if 0 < (own := sum(table.spec.row(row).beyond for row in rows)) < len(rows):
        panel.axhline(len(rows) - own - 0.5, color="#999999", linewidth=0.8)
    panel.set_yticks(range(len(rows)), rows)
    panel.set_ylim(len(rows) - 0.5, -0.5)
    panel.set_title(metric_title(metric), fontsize="medium")
    panel.margins(x=0.12)
    if metric == INFERENCE and table.spec.kind != "timing":
        panel.set_xscale("log")
    else:
        plainly_spaced(panel, "x", table.spec)
    bare(panel, "x")


def _measurement(panel: Any, values: Sequence[float], measurement: Any, y: float, selection: str) -> None:
    if not values:
        return
    colour, summary = SELECTION_COLOURS[selection], measurement.summary
    # The seeds fan out a little so that equal values stay visible.
    fan = np.linspace(-0.07, 0.07, len(values)) if len(values) > 1 else np.zeros(1)
    panel.scatter(values, y + fan, s=14, color=colour, alpha=0.55, linewidths=0, zorder=2)
    if not math.isnan(summary.half_width):
        panel.plot([summary.low, summary.high], [y, y], color=colour, linewidth=2.2, solid_capstyle="butt", zorder=3)
    panel.plot(summary.mean, y, marker="|", markersize=13, markeredgewidth=2.2, color=colour, zorder=4)


def measured_rows(table: Table, dataset: str) -> list[str]:
    """Return the rows that have a measurement on a dataset, those beyond the paper last."""
    rows = [row.name for row in sorted(table.spec.rows, key=lambda row: row.beyond)]
    return [row for row in rows if any(table.cell(dataset, row, metric).measured for metric in table.spec.metrics)]


def _legend(used: Sequence[str], *, printed: bool) -> list[Line2D]:
    handles = [
        Line2D(
            [],
            [],
            color=SELECTION_COLOURS[s],
            linewidth=2.2,
            marker="|",
            markersize=11,
            markeredgewidth=2.2,
            label=KINDS[s],
        )
        for s in used
    ]
    seeds = Line2D([], [], color="#777777", marker="o", markersize=4, alpha=0.6, linestyle="none", label="one seed")
    diamond = Line2D([], [], color="none", marker="D", markeredgecolor=PRINTED, markersize=7, label="paper")
    return [*handles, seeds, *([diamond] if printed else [])]
