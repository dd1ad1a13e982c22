"""ROC and precision-recall curves as figures. Legend: K points of a curve."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from harness.record import TrialResult

TICKS = (0, 0.5, 1)
LINE_STYLES = ("-", "--", ":", "-.")


@dataclass(frozen=True)
class StageCurves:
    """The curves of a trial at one stage: float [2, K], x above y; `auc` is None where the trial measured none."""

    roc_2K: NDArray[Any]
    precision_recall_2K: NDArray[Any]
    auc: float | None


def stage_curves(result: TrialResult, arrays: Mapping[str, NDArray[Any]]) -> dict[str, StageCurves]:
    """Return a trial's curves by stage, in the trial's order: arrays named `test/<stage>/roc` and `test/<stage>/pr`.

    A trial without stages (`test/roc`) has one, called `test`.
    """
    stages = {}
    for name in arrays:
        prefix, _, kind = name.rpartition("/")
        if kind == "roc" and f"{prefix}/pr" in arrays:
            stage = prefix.removeprefix("test/")
            auc = result.metrics.get(f"{prefix}/auc")
            stages[stage] = StageCurves(arrays[name], arrays[f"{prefix}/pr"], auc)
    return stages


def plot_curves(curves: Mapping[str, StageCurves], title: str) -> Figure:
    """Return a figure with the ROC curves on the left and the precision-recall curves on the right, by label."""
    figure = Figure(figsize=(9.6, 4.2), dpi=100)
    # Fixed margins: a layout engine draws everything three times, and there is a figure a trial.
    figure.subplots_adjust(left=0.07, right=0.98, bottom=0.13, top=0.9, wspace=0.2)
    figure.suptitle(title)
    roc, precision_recall = figure.subplots(
        1, 2, subplot_kw={"xlim": (0, 1), "ylim": (0, 1), "xticks": TICKS, "yticks": TICKS}
    )
    for index, (label, curve) in enumerate(curves.items()):
        style = {"color": f"C{index % 10}", "linestyle": LINE_STYLES[index // 10 % 4], "linewidth": 1.3}
        named = label if curve.auc is None else f"{label} ({curve.auc:.4f})"
        roc.plot(*np.asarray(curve.roc_2K), label=named, **style)
        precision_recall.plot(*np.asarray(curve.precision_recall_2K), **style)
    roc.plot([0, 1], [0, 1], color="0.7", linewidth=0.8, zorder=0)
    roc.set(xlabel="false-positive rate", ylabel="true-positive rate")
    precision_recall.set(xlabel="recall", ylabel="precision")
    has_auc = any(curve.auc is not None for curve in curves.values())
    roc.legend(loc="lower right", fontsize=8 if len(curves) <= 12 else 6, title="AUC" if has_auc else None)
    return figure
