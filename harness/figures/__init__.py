"""Pictures of a table, drawn with matplotlib's objects, so that no global state is touched.

The same trials give the same bytes: no date, no program's name, no identifiers drawn at random.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from harness.figures.convergence import plot_convergence
from harness.figures.counts import plot_counts
from harness.figures.curve import plot_curve
from harness.figures.projection import plot_covariance, plot_t_sne
from harness.figures.reliability import plot_reliability
from harness.figures.rows import plot_rows
from harness.figures.scatter import plot_scatter
from harness.figures.seeds import plot_seeds
from harness.figures.stages import plot_stages
from harness.table_specs import Drawing, TableSpec
from harness.tables.model import Table
from harness.whole_files import whole_file

__all__ = [
    "figure_name",
    "plot",
    "plot_convergence",
    "plot_counts",
    "plot_covariance",
    "plot_curve",
    "plot_reliability",
    "plot_rows",
    "plot_scatter",
    "plot_seeds",
    "plot_stages",
    "plot_t_sne",
    "svg",
    "write_figures",
]

_PLOTS: dict[Drawing, Callable[[Table, Sequence[str] | None], Figure]] = {
    "seeds": plot_seeds,
    "stages": plot_stages,
    "rows": plot_rows,
    "reliability": plot_reliability,
    "curve": plot_curve,
    "times": plot_seeds,
    "scatter": plot_scatter,
    "counts": plot_counts,
    "convergence": plot_convergence,
    "t_sne": plot_t_sne,
    "covariance": plot_covariance,
}


def figure_name(spec: TableSpec) -> str:
    """Return what the table's picture is called: its files without their endings."""
    return spec.drawing


def plot(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw a table as its kind asks, on all datasets that have a measurement, or on these of them."""
    return _PLOTS[table.spec.drawing](table, datasets)


def write_figures(table: Table, folder: Path) -> None:
    """Write a table's picture as PNG and SVG, each whole or not at all.

    Raises:
        OSError: the folder cannot be written.
    """
    name = figure_name(table.spec)
    # Drawn anew for each: the layout of a second drawing starts from that of the first.
    with whole_file(folder / f"{name}.png") as partial:
        plot(table).savefig(partial, format="png", dpi=120, metadata={"Software": None})
    with whole_file(folder / f"{name}.svg") as partial:
        partial.write_text(svg(plot(table)), encoding="utf-8")


def svg(figure: Figure) -> str:
    """Return a picture as SVG, its texts as texts: equal pictures give equal text, in whatever process."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "diffbench", "svg.fonttype": "none"}):
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return "\n".join(line.rstrip() for line in _numbered(stream.getvalue()).splitlines()) + "\n"


def _numbered(text: str) -> str:
    """Return a picture's text with its parts numbered where matplotlib names them by a hash.

    The hash is of coordinates to the last bit, in which another process's layout may differ; they are printed rounded.
    """
    names = dict.fromkeys(re.findall(r'id="([a-z]+[0-9a-f]{10})"', text))
    number = {name: f"{name[:-10]}{index}" for index, name in enumerate(names, start=1)}
    return re.sub(r"\b[a-z]+[0-9a-f]{10}\b", lambda found: number.get(found[0], found[0]), text)
