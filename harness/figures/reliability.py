"""How true predicted probabilities are: the share of positives beside the mean probability, by bins of equal rows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.figures.style import LINE_STYLES, PALETTE, bare, drawn_datasets, empty, selections, titled, with_legend
from harness.metrics.calibration import Reliability
from harness.tables.model import SELECTIONS, Table
from harness.tables.wording import KINDS

PANEL, COLUMNS = 2.9, 4


def plot_reliability(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw every seed's reliability diagram, one panel a row, and the diagonal on which predictions are true."""
    shown = [
        (dataset, row.name)
        for dataset in drawn_datasets(table, datasets)
        for row in table.spec.rows
        if any((dataset, row.name, selection) in table.reliability for selection in SELECTIONS)
    ]
    if not shown:
        return empty(table)
    lines = math.ceil(len(shown) / COLUMNS)
    columns = math.ceil(len(shown) / lines)
    figure = Figure(figsize=(PANEL * columns + 0.4, PANEL * lines + 1.1), facecolor="white", layout="constrained")
    grid = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    for panel in grid.flat[len(shown) :]:
        panel.set_axis_off()
    several = len({dataset for dataset, _ in shown}) > 1
    for place, (panel, (dataset, row)) in enumerate(zip(grid.flat, shown, strict=False)):
        _diagonal(panel)
        for selection in SELECTIONS:
            for diagram in table.reliability.get((dataset, row, selection), {}).values():
                _line(panel, diagram, PALETTE[place % len(PALETTE)], LINE_STYLES[selection])
        panel.set_title(f"{dataset}: {row}" if several else row, fontsize="medium", wrap=True)
        panel.set_box_aspect(1)
        bare(panel, "y")
    for panel in grid.flat[: len(shown)][-columns:]:  # the lowest of each column
        panel.set_xlabel("mean probability")
        panel.tick_params(labelbottom=True)
    for panel in grid[:, 0]:
        panel.set_ylabel("share of positives")
    titled(figure, table.spec.title)
    used = [s for s in SELECTIONS if any(s in selections(table, dataset) for dataset, _ in shown)]
    with_legend(figure, [Line2D([], [], color="#777777", linestyle=LINE_STYLES[s], label=KINDS[s]) for s in used])
    return figure


def plot_diagrams(diagrams: Mapping[str, Reliability], title: str) -> Figure:
    """Return one panel with several reliability diagrams over each other, by label."""
    figure = Figure(figsize=(4.8, 4.4), dpi=100, facecolor="white", layout="constrained")
    panel = figure.subplots()
    _diagonal(panel)
    for place, (label, diagram) in enumerate(diagrams.items()):
        _line(panel, diagram, PALETTE[place % len(PALETTE)], "-", label)
    panel.set(xlabel="mean probability", ylabel="share of positives")
    panel.legend(loc="upper left", fontsize=8, frameon=False)
    bare(panel, "y")
    figure.suptitle(title)
    return figure


def _diagonal(panel: Any) -> None:
    """Draw where predictions are true."""
    panel.axline((0, 0), slope=1, color="#777777", linewidth=0.8, linestyle=":")


def _line(panel: Any, diagram: Reliability, colour: str, style: str, label: str | None = None) -> None:
    style_of_line = {"color": colour, "linestyle": style, "linewidth": 0.9, "alpha": 0.7, "marker": "."}
    panel.plot(diagram.predicted, diagram.observed, label=label, **style_of_line)
