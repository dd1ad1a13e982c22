"""What names, numbers and legends look like, in tables and in figures."""

from __future__ import annotations

import math

from harness.record import INFERENCE, OPTIMUM_AUC, TRAINING_ROWS
from harness.table_specs import TableSpec
from harness.tables.counts import AVERAGE_LENGTH, COUNTS
from harness.tables.model import RELATIVE

LEGEND = (
    "Ours: mean over seeds ± half of its 95 % t-interval. Against the paper: ✓ reproduced (within the tolerance), "
    "≈ consistent (beyond it, but the printed value lies in the 95 % interval of seeds and test sample together), "
    "✗ not reproduced; ~ unstable (the seeds' standard deviation exceeds the tolerance). "
    "Best bold, second best underlined, among printed and among measured values apart. Effect: the mean paired "
    "difference over its standard deviation; among thousands of users even a tiny effect has a tiny p. Paired by user, "
    "an interval is of other test users, not of other seeds. Published parameters are those that search_spaces/ has as "
    "published, ours where the paper prints none."
)
COUNTS_LEGEND = (
    "Ours: counted in the prepared data, of items all that it has ids for. ✓ equals the printed number, ✗ does not."
)
TIMES = (
    "Ours: milliseconds, the median over batches after a warm-up, of trials that ran one at a time; mean over seeds ± "
    "half of its 95 % t-interval. Best bold, second best underlined. Effect: the mean paired difference over its "
    "standard deviation."
)
SECONDS = (
    "Times in seconds, of trials that ran one at a time: an epoch's training and the inference of one split's users as "
    "medians, all epochs together with their validation."
)
SECONDS_BESIDE = (
    "Seconds of inference: of ranking all items once for the users of the test split, in trials that may run side by "
    "side. The paper's are of another machine, so that there is no verdict on ours."
)
KINDS = {"published": "ours, published parameters", "tuned": "ours, tuned"}
_NAMES = {
    "auc": "AUC",
    RELATIVE: "RelaImpr",
    "recall": "Recall",
    "ndcg": "NDCG",
    "log_loss": "log loss",
    "ece": "ECE",
    "batch_ms": "ms a batch",
    "step_ms": "ms a step",
    "epoch_s": "seconds an epoch",
    "training_s": "seconds of training",
    INFERENCE: "seconds of inference",
    "best_validation": "best validation",
    "best_epoch": "best epoch",
    "best_s": "seconds to it",
    AVERAGE_LENGTH: "average length",
    TRAINING_ROWS: "training rows",
    OPTIMUM_AUC: "best possible AUC",
}


def legend(spec: TableSpec) -> str:
    """Say how the table is read."""
    if spec.kind == "timing" and not any(metric.endswith("_ms") for metric in spec.metrics):
        return f"{LEGEND} {SECONDS}"
    if spec.kind in ("cells", "curve") and INFERENCE in spec.metrics:
        return f"{LEGEND} {SECONDS_BESIDE}"
    return {"statistics": COUNTS_LEGEND, "timing": TIMES}.get(spec.kind, LEGEND)


def metric_title(metric: str) -> str:
    """Return `warm_a/auc` as `warm-a AUC`, `recall@5` as `Recall@5`."""
    stage, _, name = metric.rpartition("/")
    kind, at, k = name.partition("@")
    return f"{stage.replace('_', '-')} {_NAMES.get(kind, kind)}{at}{k}".strip()


def value(metric: str, x: float) -> str:
    """Return a value with four decimals, RelaImpr in percent with two, a count without; `–` where there is none."""
    if metric == AVERAGE_LENGTH or metric.endswith("_s"):
        return number(x, 2)
    if metric == "best_epoch":
        return number(x, 1)
    if metric in (*COUNTS, TRAINING_ROWS) and not math.isnan(x):
        return f"{x:,.0f}"
    if metric.endswith("_ms"):
        return number(x, 3)
    return number(x, 2) + " %" if metric.endswith(RELATIVE) and not math.isnan(x) else number(x, 4)


def signed(metric: str, x: float) -> str:
    """Return a difference with its sign."""
    text = value(metric, x)
    return f"+{text}" if x > 0 and text.strip("0. %") else text


def interval(metric: str, low: float, high: float) -> str:
    """Return `low … high`, or `–` where there is none."""
    return "–" if math.isnan(low) else f"{value(metric, low)} … {value(metric, high)}"


def p_value(p: float) -> str:
    """Return a p-value with three decimals."""
    return "< 0.001" if p < 0.001 else number(p, 3)


def number(x: float, decimals: int) -> str:
    """Return a number without a negative zero; `–` for NaN."""
    if math.isnan(x):
        return "–"
    text = f"{x:.{decimals}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text
