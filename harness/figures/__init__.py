"""Pictures of a table, drawn with matplotlib's objects, so that no global state is touched.

The same trials give the same bytes: no date, no program's name, no identifiers drawn at random.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from harness.figures.counts import plot_counts
from harness.figures.curve import plot_curve
from harness.figures.seeds import plot_seeds
from harness.figures.stages import plot_stages
from harness.specs import TableSpec
from harness.tables.model import Table

__all__ = ["figure_name", "plot", "plot_counts", "plot_curve", "plot_seeds", "plot_stages", "svg", "write_figures"]

_PLOTS: dict[str, Callable[[Table, Sequence[str] | None], Figure]] = {
    "seeds": plot_seeds,
    "stages": plot_stages,
    "curve": plot_curve,
    "times": plot_seeds,
    "counts": plot_counts,
}


def figure_name(spec: TableSpec) -> str:
    """Return what the table's picture is called: its files without their endings."""
    return {"cells": spec.figure, "curve": "curve", "timing": "times", "statistics": "counts"}[spec.kind]


def plot(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw a table as its kind asks, on all datasets that have a measurement, or on these of them."""
    return _PLOTS[figure_name(table.spec)](table, datasets)


def write_figures(table: Table, folder: Path) -> None:
    """Write a table's picture as PNG and SVG."""
    name = figure_name(table.spec)
    # Drawn anew for each: the layout of a second drawing starts from that of the first.
    plot(table).savefig(folder / f"{name}.png", dpi=120, metadata={"Software": None})
    (folder / f"{name}.svg").write_text(svg(plot(table)), encoding="utf-8")


def svg(figure: Figure) -> str:
    """Return a picture as SVG, its texts as texts."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "diffbench", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in stream.getvalue().splitlines()) + "\n"
