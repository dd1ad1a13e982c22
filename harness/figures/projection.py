"""The item embeddings that trials learned: items in the plane with their density, or a covariance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import gaussian_kde

from harness.figures.style import PALETTE, drawn_datasets, empty, titled
from harness.projections import Projection
from harness.tables.model import SELECTIONS, Table

PANEL = 3.4
GRID = 80
"""Points a side at which the density is evaluated."""


def plot_t_sne(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw the items in the plane over a Gaussian kernel density estimate of them (Scott's bandwidth)."""
    return _panels(table, datasets, _density)


def plot_covariance(table: Table, datasets: Sequence[str] | None = None) -> Figure:
    """Draw the covariance of the first dimensions, each panel on its own scale, and say how large it is."""
    return _panels(table, datasets, _matrix)


def _panels(table: Table, datasets: Sequence[str] | None, draw: Callable[[Any, NDArray[Any]], str]) -> Figure:
    """Return a line of panels a dataset, one panel a row and selection."""
    shown = {name: _shown(table, name) for name in drawn_datasets(table, datasets)}
    shown = {name: projections for name, projections in shown.items() if projections}
    if not shown:
        return empty(table)
    columns = max(map(len, shown.values()))
    size = (PANEL * columns + 0.3, (PANEL + 0.4) * len(shown) + 0.6)
    figure = Figure(figsize=size, facecolor="white", layout="constrained")
    grid = figure.subplots(len(shown), columns, squeeze=False)
    for axes, (dataset, projections) in zip(grid, shown.items(), strict=True):
        for panel in axes[len(projections) :]:
            panel.set_axis_off()
        for panel, one in zip(axes, projections, strict=False):
            remark = draw(panel, one.values)
            panel.set_title(f"{one.row}, {one.selection}{remark}", fontsize="medium")
            panel.set_xticks([])
            panel.set_yticks([])
        axes[0].set_ylabel(dataset, fontweight="bold")
    titled(figure, table.spec.title)
    return figure


def _shown(table: Table, dataset: str) -> list[Projection]:
    keys = [(dataset, row.name, selection) for row in table.spec.rows for selection in SELECTIONS]
    return [table.projections[key] for key in keys if key in table.projections]


def _density(panel: Any, point_N2: NDArray[Any]) -> str:
    low, high = point_N2.min(0), point_N2.max(0)
    margin = 0.08 * (high - low)
    xs, ys = (np.linspace(low[i] - margin[i], high[i] + margin[i], GRID) for i in range(2))
    grid_x, grid_y = np.meshgrid(xs, ys)
    density = gaussian_kde(point_N2.T)(np.stack([grid_x.ravel(), grid_y.ravel()])).reshape(GRID, GRID)
    panel.contourf(grid_x, grid_y, density, levels=12, cmap="OrRd")
    panel.scatter(*point_N2.T, s=2, color=PALETTE[0], alpha=0.35, linewidths=0, rasterized=True)
    return ""


def _matrix(panel: Any, covariance_KK: NDArray[Any]) -> str:
    limit = float(np.abs(covariance_KK).max())
    panel.imshow(covariance_KK, cmap="RdBu_r", vmin=-limit, vmax=limit, interpolation="nearest")
    off = covariance_KK[~np.eye(len(covariance_KK), dtype=bool)]
    mean_off = float(np.abs(off).mean()) if off.size else 0.0
    return f"\ndiagonal {np.diag(covariance_KK).mean():.3g}, beside it ±{mean_off:.2g}"
