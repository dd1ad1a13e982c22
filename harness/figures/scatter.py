"""Metrics over what they cost: one point a row, its seeds around it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from harness.figures.seeds import measured_rows
from harness.figures.style import (
    MARKERS,
    PALETTE,
    PRINTED,
    bare,
    drawn_datasets,
    empty,
    selections,
    titled,
    with_legend,
)
from harness.tables.model import Table
from harness.tables.wording import metric_title

PANEL_WIDTH, PANEL_HEIGHT = 3.6, 3.2


def plot_scatter(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw the other metrics over the last one, which is on a logarithmic scale: every seed, the mean, the printed.

    One line of panels a metric, one panel a dataset.
    """
    drawn, metrics = drawn_datasets(table, datasets), table.spec.metrics[:-1]
    if not drawn or not metrics:
        return empty(table)
    size = (PANEL_WIDTH * len(drawn) + 0.4, PANEL_HEIGHT * len(metrics) + 0.9)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    for axes, metric in zip(figure.subplots(len(metrics), len(drawn), squeeze=False), metrics, strict=True):
        for panel, dataset in zip(axes, drawn, strict=True):
            _panel(panel, table, dataset, metric)
        axes[0].set_ylabel(metric_title(metric))
    titled(figure, table.spec.title)
    with_legend(figure, *figure.axes[0].get_legend_handles_labels(), columns=5)
    return figure


def _panel(panel: Any, table: Table, dataset: str, metric: str) -> None:
    cost = table.spec.metrics[-1]
    panel.set_xscale("log")
    for row in measured_rows(table, dataset):
        number = [other.name for other in table.spec.rows].index(row)
        look = {"color": PALETTE[number % len(PALETTE)], "marker": MARKERS[number % len(MARKERS)]}
        costs, values = table.cell(dataset, row, cost), table.cell(dataset, row, metric)
        for selection in selections(table, dataset):
            if selection in values.measured and costs.measured[selection].summary.n:
                x, y = costs.measured[selection], values.measured[selection]
                seeds = sorted(x.values.keys() & y.values.keys())
                panel.scatter([x.values[s] for s in seeds], [y.values[s] for s in seeds], s=12, alpha=0.45, **look)
                panel.plot(x.summary.mean, y.summary.mean, markersize=8, linestyle="none", label=row, **look)
        if costs.published and values.published:
            at = (costs.published.value, values.published.value)
            panel.plot(*at, marker="D", markersize=7, color="none", markeredgecolor=PRINTED)
    panel.set_title(dataset, fontsize="medium")
    panel.set_xlabel(metric_title(cost))
    bare(panel, "y")
