"""The validation metric while trials train, over epochs and over time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from harness.figures.style import LINE_STYLES, PALETTE, bare, drawn_datasets, empty, selections, titled, with_legend
from harness.tables.model import SELECTIONS, Table
from harness.tables.wording import KINDS, metric_title
from harness.tasks import load_task
from harness.training_curve import TrainingCurve

PANEL_WIDTH, PANEL_HEIGHT = 4.6, 3.2
SECONDS_A_MINUTE = 60


def plot_convergence(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw the validation metric of every seed, over epochs on the left and minutes on the right, its best marked.

    One line of panels a dataset, one colour a row.
    """
    drawn = [name for name in drawn_datasets(table, datasets) if any(group[0] == name for group in table.curves)]
    if not drawn:
        return empty(table)
    size = (2 * PANEL_WIDTH + 0.4, PANEL_HEIGHT * len(drawn) + 1.1)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    for axes, dataset in zip(figure.subplots(len(drawn), 2, squeeze=False, sharey="row"), drawn, strict=True):
        for (place, row, selection), curves in table.curves.items():
            for curve in curves.values() if place == dataset else ():
                style = {"color": _colour(table, row), "linestyle": LINE_STYLES[selection]}
                _line(axes[0], curve.epochs, curve, style)
                _line(axes[1], np.array(curve.seconds) / SECONDS_A_MINUTE, curve, style)
        axes[0].set_ylabel(f"{dataset}\n{metric_title(load_task(table.spec.task).primary)}")
        axes[0].set_xlabel("epoch")
        axes[1].set_xlabel("minutes")
        for panel in axes:
            bare(panel, "y")
    titled(figure, table.spec.title)
    with_legend(figure, _legend(table, drawn))
    return figure


def _line(panel: Any, xs: Any, curve: TrainingCurve, style: dict[str, Any]) -> None:
    best = int(np.argmax(curve.values))
    panel.plot(xs, curve.values, linewidth=1.1, alpha=0.8, **style)
    panel.plot(xs[best], curve.values[best], marker="o", markersize=5, color=style["color"])


def _colour(table: Table, row: str) -> str:
    return PALETTE[[other.name for other in table.spec.rows].index(row) % len(PALETTE)]


def _legend(table: Table, drawn: Sequence[str]) -> list[Line2D]:
    rows = dict.fromkeys(row for dataset, row, _ in table.curves if dataset in drawn)
    handles = [Line2D([], [], color=_colour(table, row), linewidth=1.4, label=row) for row in rows]
    used = [s for s in SELECTIONS if any(s in selections(table, dataset) for dataset in drawn)]
    handles += [Line2D([], [], color="#777777", linestyle=LINE_STYLES[s], label=KINDS[s]) for s in used]
    return [*handles, Line2D([], [], color="#777777", marker="o", markersize=5, linestyle="none", label="best epoch")]
