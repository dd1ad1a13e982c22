"""AUC by the number of rows that are learned from, below the best that can be had: generated datasets of one kind."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.figures.style import (
    LINE_STYLES,
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
from harness.record import OPTIMUM_AUC, PLANTED, TRAINING_ROWS
from harness.tables.model import SELECTIONS, Table
from harness.tables.wording import KINDS, metric_title

PANEL_WIDTH, PANEL_HEIGHT = 4.2, 3.6
MARGIN = 1.6
"""The axis goes on so many times beyond its first and last place."""
ROOM = 0.25
"""What of their range the means leave free above and below; an interval that is longer, as of two seeds, is cut off."""


def plot_rows(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw each row's mean over the datasets' training rows with its 95 % interval, and the best possible AUC.

    One panel a metric. A dataset is a place on the axis; those of which the number of training rows is not known, as
    they are not generated, are left out.
    """
    drawn = drawn_datasets(table, datasets)
    if not drawn:
        return empty(table)
    metrics = [metric for metric in table.spec.metrics if metric not in PLANTED]
    size = (max(PANEL_WIDTH * len(metrics), 7.0), PANEL_HEIGHT + 1.2)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    panels = figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0]
    for panel, metric in zip(panels, metrics, strict=True):
        _panel(panel, table, drawn, metric)
    if heights := _heights(table, drawn, metrics):
        room = ROOM * (max(heights) - min(heights)) or ROOM
        panels[0].set_ylim(min(heights) - room, max(heights) + room)
    titled(figure, table.spec.title)
    with_legend(figure, _legend(table, drawn))
    return figure


def _panel(panel: Any, table: Table, drawn: Sequence[str], metric: str) -> None:
    panel.set_xscale("log")
    for selection in SELECTIONS:
        for number, row in enumerate(table.spec.rows):
            known = _known(table, drawn, row.name, metric, selection)
            means = [summary.mean for _, summary in known]
            halves = [0.0 if math.isnan(summary.half_width) else summary.half_width for _, summary in known]
            colour, marker = PALETTE[number % len(PALETTE)], MARKERS[number % len(MARKERS)]
            style = {"color": colour, "marker": marker, "linestyle": LINE_STYLES[selection]}
            panel.errorbar(
                [x for x, _ in known], means, yerr=halves, linewidth=1.2, markersize=5, capsize=2.5, zorder=3, **style
            )
    best = sorted(_best(table, drawn).items())
    panel.plot([x for x, _ in best], [auc for _, auc in best], color=PRINTED, linestyle=":", marker="_", markersize=12)
    panel.set_title(metric_title(metric), fontsize="medium")
    panel.set_xlabel(metric_title(TRAINING_ROWS))
    if best:  # a logarithmic axis of its own choosing may have no tick at all
        panel.set_xlim(best[0][0] / MARGIN, best[-1][0] * MARGIN)
        panel.set_xticks([x for x, _ in best], [_short(x) for x, _ in best], minor=False)
        panel.set_xticks([], minor=True)
    bare(panel, "y")


def _short(rows: float) -> str:
    """Return a number of rows with two figures: `48 k`, `1.2 M`."""
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if rows >= size:
            return f"{rows / size:.{1 if rows < 10 * size else 0}f} {unit}".replace(".0", "")
    return f"{rows:.0f}"


def _known(table: Table, drawn: Sequence[str], row: str, metric: str, selection: str) -> list[tuple[float, Any]]:
    """Return training rows and the summary of a metric, by training rows."""
    known = []
    for dataset in drawn:
        rows = table.cell(dataset, row, TRAINING_ROWS).measured.get(selection)
        measured = table.cell(dataset, row, metric).measured.get(selection)
        if rows and measured and rows.summary.n and measured.summary.n:
            known.append((rows.summary.mean, measured.summary))
    return sorted(known, key=lambda at: at[0])


def _best(table: Table, drawn: Sequence[str]) -> dict[float, float]:
    """Return the best possible AUC by training rows; it is the dataset's, whichever trial tells it."""
    return {
        x: summary.mean
        for row in table.spec.rows
        for selection in SELECTIONS
        for x, summary in _known(table, drawn, row.name, OPTIMUM_AUC, selection)
    }


def _heights(table: Table, drawn: Sequence[str], metrics: Sequence[str]) -> list[float]:
    """Return every mean that is drawn, and the best possible AUCs."""
    of_rows = [
        summary.mean
        for metric in metrics
        for row in table.spec.rows
        for selection in SELECTIONS
        for _, summary in _known(table, drawn, row.name, metric, selection)
    ]
    return [*of_rows, *_best(table, drawn).values()]


def _legend(table: Table, drawn: Sequence[str]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=PALETTE[i % len(PALETTE)], marker=MARKERS[i % len(MARKERS)], markersize=5, label=row.name)
        for i, row in enumerate(table.spec.rows)
    ]
    used = [s for s in SELECTIONS if any(s in selections(table, dataset) for dataset in drawn)]
    handles += [Line2D([], [], color="#777777", linestyle=LINE_STYLES[s], label=KINDS[s]) for s in used]
    best = Line2D([], [], color=PRINTED, linestyle=":", marker="_", markersize=12, label=metric_title(OPTIMUM_AUC))
    return [*handles, best]
