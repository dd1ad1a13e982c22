"""What datasets count, ours beside the printed: on a logarithmic scale, and averages from 0."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from harness.figures.style import PALETTE, PRINTED, bare, titled, with_legend
from harness.table_specs import COUNTED
from harness.tables.counts import AVERAGE_LENGTH
from harness.tables.model import SELECTIONS, Table

PANEL_WIDTH, LINE_HEIGHT = 3.1, 0.42


def plot_counts(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw a bar for each count, and the printed value: one panel a count, one line a dataset."""
    names = table.spec.datasets if datasets is None else tuple(datasets)
    metrics = table.spec.metrics
    size = (PANEL_WIDTH * len(metrics) + 0.8, LINE_HEIGHT * len(names) + 1.6)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    for panel, metric in zip(figure.subplots(1, len(metrics), squeeze=False, sharey=True)[0], metrics, strict=True):
        if metric != AVERAGE_LENGTH:
            panel.set_xscale("log")
        for line, dataset in enumerate(names):
            cell = table.cell(dataset, COUNTED, metric)
            for measurement in (cell.measured[s] for s in SELECTIONS if s in cell.measured):
                panel.barh(line, measurement.summary.mean, height=0.6, color=PALETTE[0], alpha=0.75)
            if cell.published:
                panel.plot(cell.published.value, line, marker="D", markersize=7, color="none", markeredgecolor=PRINTED)
        right = panel.get_xlim()[1]
        panel.set_xlim(*((0, right) if metric == AVERAGE_LENGTH else (min(100, right / 100), 4 * right)))
        panel.set_yticks(range(len(names)), names)
        panel.set_ylim(len(names) - 0.5, -0.5)
        panel.set_title(metric, fontsize="medium")
        bare(panel, "x")
    titled(figure, table.spec.title)
    ours = Patch(color=PALETTE[0], alpha=0.75, label="ours")
    paper = Line2D([], [], color="none", marker="D", markeredgecolor=PRINTED, markersize=7, label="paper")
    with_legend(figure, [ours, paper])
    return figure
