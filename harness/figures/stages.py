"""Every method from stage to stage: one panel a dataset and group, as in CSDM's Figures 2 and 6."""

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
    bare,
    drawn_datasets,
    empty,
    plainly_spaced,
    selections,
    titled,
    with_legend,
)
from harness.table_rows import Row
from harness.tables.model import RELATIVE, SELECTIONS, Table
from harness.tables.wording import KINDS, metric_title

PANEL_WIDTH, PANEL_HEIGHT = 5.4, 4.0
SPREAD = 0.36
"""How far apart the methods of one stage stand, of the distance between stages."""


def plot_stages(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw the mean of each of the paper's rows by stage with its 95 % interval, and the printed value where there is
    one.

    One line of panels a dataset and metric, one panel a group. A method has one colour and marker in all groups.
    """
    drawn = drawn_datasets(table, datasets)
    if not drawn:
        return empty(table)
    rows = [row for row in table.spec.rows if not row.beyond]
    groups = list(dict.fromkeys(row.group for row in rows))
    lines = [(dataset, name) for dataset in drawn for name in _stages(table)]
    size = (max(PANEL_WIDTH * len(groups), 7.0) + 0.4, PANEL_HEIGHT * len(lines) + 1.3)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    looks = _looks(rows)
    for axes, (dataset, name) in zip(
        figure.subplots(len(lines), len(groups), squeeze=False, sharey="row"), lines, strict=True
    ):
        for panel, group in zip(axes, groups, strict=True):
            _panel(panel, table, dataset, _stages(table)[name], [row for row in rows if row.group == group], looks)
            panel.set_title(group, fontsize="medium")
        axes[0].set_ylabel(f"{dataset}: {metric_title(name)}", fontweight="bold")
    titled(figure, table.spec.title)
    used = [s for s in SELECTIONS if any(s in selections(table, dataset) for dataset in drawn)]
    with_legend(figure, _legend(looks, used), columns=3 * len(groups))
    return figure


def _panel(
    panel: Any,
    table: Table,
    dataset: str,
    stages: Sequence[str],
    rows: Sequence[Row],
    looks: dict[str, tuple[str, str]],
) -> None:
    for number, row in enumerate(rows):
        colour, marker = looks[_method(row)]
        offset = SPREAD * (number / max(len(rows) - 1, 1) - 0.5)
        cells = [table.cell(dataset, row.name, metric) for metric in stages]
        for selection in selections(table, dataset):
            known = [(x + offset, m.summary) for x, c in enumerate(cells) if (m := c.measured.get(selection))]
            known = [(x, summary) for x, summary in known if summary.n]
            xs, means = [x for x, _ in known], [summary.mean for _, summary in known]
            panel.plot(xs, means, color=colour, linewidth=0.9, alpha=0.55, linestyle=LINE_STYLES[selection], zorder=2)
            halves = [0.0 if math.isnan(summary.half_width) else summary.half_width for _, summary in known]
            panel.errorbar(
                xs, means, yerr=halves, fmt=marker, color=colour, markersize=5, elinewidth=1.6, capsize=2, zorder=3
            )
        printed = [(x + offset, cell.published.value) for x, cell in enumerate(cells) if cell.published]
        for x, value in printed:
            panel.plot(x, value, marker="D", markersize=8, color="none", markeredgecolor=colour, zorder=4)
    panel.set_xticks(range(len(stages)), [metric.rpartition("/")[0].replace("_", "-") for metric in stages])
    panel.set_xlim(-0.5, len(stages) - 0.5)
    plainly_spaced(panel, "y", table.spec)
    bare(panel, "y")


def _stages(table: Table) -> dict[str, list[str]]:
    """Return the metrics of all stages by their name without the stage; RelaImpr is AUC on another scale."""
    found: dict[str, list[str]] = {}
    for metric in table.spec.metrics:
        if not metric.endswith(RELATIVE):
            found.setdefault(metric.rpartition("/")[2], []).append(metric)
    return found


def _looks(rows: Sequence[Row]) -> dict[str, tuple[str, str]]:
    """Return a colour and a marker for each method, the paper's own, the last, first."""
    methods = list(dict.fromkeys(_method(row) for row in rows))
    order = [methods[-1], *methods[:-1]]
    looks = {
        method: (PALETTE[(number + 1) % len(PALETTE)], MARKERS[number % len(MARKERS)])
        for number, method in enumerate(order)
    }
    return {method: looks[method] for method in methods}


def _method(row: Row) -> str:
    """Return a row's name without its group: the same for all groups."""
    if not row.group:
        return row.name
    return "backbone" if row.name == row.group else row.name.removesuffix(f"({row.group})")


def _legend(looks: dict[str, tuple[str, str]], used: Sequence[str]) -> list[Line2D]:
    handles = [
        Line2D([], [], color=colour, marker=marker, markersize=5, linewidth=1.2, label=method)
        for method, (colour, marker) in looks.items()
    ]
    styles = [Line2D([], [], color="#777777", linewidth=1.2, linestyle=LINE_STYLES[s], label=KINDS[s]) for s in used]
    return handles + styles
