"""What all pictures share: colours, bare axes, and which parts of a table have something to draw."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

from matplotlib.figure import Figure

from harness.table_specs import TableSpec
from harness.tables.model import RELATIVE, SELECTIONS, Table

# Okabe & Ito's palette: told apart under every common kind of colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999999")
SELECTION_COLOURS = {"published": PALETTE[0], "tuned": PALETTE[1]}
LINE_STYLES: dict[str, Literal["-", "--"]] = {"published": "-", "tuned": "--"}
MARKERS = ("o", "s", "^", "v", "P", "X", "d", "*")
PRINTED = "#000000"
LEGEND_LINE, LINES_INCLUDED = 0.22, 3
"""Inches of a legend's line, and how many of them a figure has room for."""

TITLE_CHARACTER, LEGEND_CHARACTER, LEGEND_HANDLE = 0.11, 0.085, 0.75
"""Inches that a character takes on average, and what stands before a legend's label and between columns."""


def drawn_datasets(table: Table, datasets: Sequence[str] | None) -> list[str]:
    """Return the datasets that have a measurement, of these or of all."""
    wanted = table.spec.datasets if datasets is None else datasets
    return [name for name in wanted if any(table.provenance.get((name, row.name)) for row in table.spec.rows)]


def drawn_metrics(table: Table) -> list[str]:
    """Return the metrics that have a panel: not RelaImpr, the AUC on another scale, nor what no trial measured."""
    metrics = [metric for metric in table.spec.metrics if not metric.endswith(RELATIVE)]
    measured = {
        metric for (_, _, metric), cell in table.cells.items() if any(m.summary.n for m in cell.measured.values())
    }
    return [metric for metric in metrics if metric in measured] or metrics


def selections(table: Table, dataset: str) -> list[str]:
    """Return how the parameters of the measured rows were chosen, each way once."""
    runs = [run.selection for row in table.spec.rows for run in table.provenance.get((dataset, row.name), ())]
    return [selection for selection in SELECTIONS if selection in runs]


def bare(panel: Any, axis: Literal["x", "y"]) -> None:
    """Leave grid lines along one axis and no frame."""
    panel.grid(axis=axis, color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)
    panel.tick_params(axis="y" if axis == "x" else "x", length=0)
    for side in ("top", "right", "left") if axis == "x" else ("top", "right"):
        panel.spines[side].set_visible(False)


def plainly_spaced(panel: Any, axis: Literal["x", "y"], spec: TableSpec) -> None:
    """Put few ticks on the axis of the values, from 0 on where they are times."""
    panel.locator_params(axis=axis, nbins=5)
    if spec.kind == "timing":
        panel.set_xlim(left=0)


def titled(figure: Figure, title: str) -> None:
    """Put a title above the panels, on as many lines as the figure's width asks for."""
    characters = int(figure.get_figwidth() / TITLE_CHARACTER)
    figure.suptitle(textwrap.fill(title, max(characters, 20)), fontweight="bold")


def with_legend(
    figure: Figure, handles: Sequence[Any], labels: Sequence[str] | None = None, *, columns: int = 4
) -> None:
    """Put a legend below the panels, in at most so many columns and no more than the figure's width holds."""
    labels = labels if labels is not None else [str(handle.get_label()) for handle in handles]
    while columns > 1 and _width(labels, columns) > figure.get_figwidth():
        columns -= 1
    rows = math.ceil(len(labels) / columns)
    figure.set_figheight(figure.get_figheight() + LEGEND_LINE * max(rows - LINES_INCLUDED, 0))
    figure.legend(handles=list(handles), labels=list(labels), loc="outside lower center", ncols=columns, frameon=False)


def _width(labels: Sequence[str], columns: int) -> float:
    """Return the inches of a legend that is filled column by column, the first columns taking what is left over."""
    rows, longer = divmod(len(labels), columns)
    starts = [column * rows + min(column, longer) for column in range(columns + 1)]
    longest = [max(map(len, labels[start:end]), default=0) for start, end in pairwise(starts)]
    return sum(length * LEGEND_CHARACTER + LEGEND_HANDLE for length in longest)


def empty(table: Table) -> Figure:
    """Return a figure that says that there is nothing to draw."""
    figure = Figure(figsize=(7, 1.6), facecolor="white")
    figure.text(0.5, 0.5, f"{table.spec.title}\nnothing measured yet", ha="center", va="center")
    return figure
