"""Click-through rate: how well a model ranks rows of users and items that it may know, and how true its rates are.

Legend: N rows of a split.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from harness.devices import rows_on
from harness.errors import InputError
from harness.feed import ResidentRows
from harness.labelled_rows import LabelledRows
from harness.metrics.auc import auc, auc_standard_error
from harness.metrics.calibration import expected_calibration_error, reliability
from harness.metrics.curves import precision_recall_points, roc_points
from harness.metrics.log_loss import log_loss
from harness.record import PLANTED
from harness.seeding import derive_seed, torch_seeded
from harness.tasks.context import Context, Outcome, joined, planted, stage_seed
from trainables.base import CtrMethod, RowSource
from trainables.workers import gathered


class CtrSettings(BaseModel):
    """The task's options.

    `split` says how train, validation and test lie: by `time`, the latest rows being tested, or at `random`.
    `labelled_share` of the training rows have known labels, drawn by the seed; the other rows are there without them,
    for a method that can use such rows. `evaluation_batch_size` is in rows and does not change the numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: Literal["time", "random"] = "time"
    labelled_share: float = Field(default=1.0, gt=0, le=1)
    evaluation_batch_size: int = Field(default=65536, gt=0)


class Ctr:
    """Train on the first eight tenths of the rows, stop by the ninth, test on the last.

    A method trains on the split `train`, and may score the rows of `validation` as often as it likes to decide when to
    stop; a search returns the AUC of these rows, a repeat measures the test rows, once. Labels of the training rows are
    known for a share of them; those of validation always (as if the share were taken after the splits, so that methods
    are selected with the same care at every share).

    AUC is exact, over all test rows together; log loss is in nats; `ece` is over 20 bins of equal numbers of rows, and
    `reliability` holds their mean probabilities, shares of positives and rows. `epochs` are those of the parameters
    that were kept. Of generated rows `optimum_auc` is what the planted probabilities reach on the test rows, and
    `training_rows` how many rows there are to learn from. A method that starts from another trial takes over its
    checkpoint.
    """

    name = "ctr"
    version = 1
    primary = "validation/auc"
    metrics = ("auc", "log_loss", "ece", "epochs", *PLANTED)
    settings = CtrSettings
    base = CtrMethod

    def run(self, context: Context) -> Outcome:
        """Train and evaluate; the checkpoint is all of the method's state.

        Raises:
            FloatingPointError: a loss or a score is not finite.
            ValueError: a split has no rows, or the checkpoint to start from is missing or does not fit.
        """
        assert isinstance(context.settings, CtrSettings)
        method = _built(context)
        method.checkpoints = context.follow(method)
        if context.start is not None:
            method.start_from(context.start)
        elif method.needs_start:
            name = type(method).__name__
            raise ValueError(f"{name} starts from a pre-training; give its row `starts_from`")
        validation = _open(context, "validation")

        def validate() -> float:
            return auc(*scored(method, validation, context.settings))

        with torch_seeded(stage_seed(context, "train")):
            order = derive_seed(context.seed, "order", "train")
            epochs = method.fit(_training_rows(context, method), validate, seed=order, log=context.log)
        rows = validation if context.purpose == "search" else _open(context, "test")
        kind = "validation" if context.purpose == "search" else "test"
        score_N, label_N = scored(method, rows, context.settings)
        metrics = {
            f"{kind}/auc": auc(score_N, label_N),
            f"{kind}/log_loss": log_loss(score_N, label_N),
            f"{kind}/ece": expected_calibration_error(score_N, label_N),
            f"{kind}/epochs": float(epochs),
        }
        standard_error = auc_standard_error(score_N, label_N)
        if not math.isnan(standard_error):  # as it is of a class with a single row, which has an AUC all the same
            metrics[f"{kind}/auc_standard_error"] = standard_error
        if kind == "test":
            split = context.settings.split
            known = planted(context.dataset, f"{split}_train", f"{split}_test")
            metrics |= {f"test/{name}": value for name, value in known.items()}
        arrays: dict[str, NDArray[Any]] = {
            f"{kind}/reliability": reliability(score_N, label_N),
            f"{kind}/roc": roc_points(score_N, label_N),
            f"{kind}/pr": precision_recall_points(score_N, label_N),
        }
        return Outcome(metrics, arrays, method.checkpoint())


@torch.no_grad()
def scored(method: CtrMethod, rows: RowSource, settings: BaseModel) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the probabilities and labels of all rows, whichever worker scored them, float32 [N], in evaluation mode.

    Raises:
        ValueError: there is no row.
        FloatingPointError: a score is not finite.
    """
    assert isinstance(settings, CtrSettings)
    if len(rows) == 0:
        raise ValueError("no rows to score; prepare the dataset with a split that has some")
    method.eval()
    scores, labels = [], []
    for batch in rows.batches(settings.evaluation_batch_size):
        scores.append(torch.sigmoid(method(batch)))
        labels.append(batch.label_B)
    score_N, label_N = gathered(joined(scores)), gathered(joined(labels))
    if not bool(score_N.isfinite().all()):
        raise FloatingPointError("scores are not finite; lower the learning rate")
    return score_N.cpu().numpy(), label_N.cpu().numpy()


def _training_rows(context: Context, method: CtrMethod) -> RowSource:
    """Return the training rows, with hidden labels or without the rows that have none.

    Raises:
        InputError: labels are to be hidden in a stream, whose rows have no numbers to draw them by.
    """
    assert isinstance(context.settings, CtrSettings)
    rows, share = _read(context, "train"), context.settings.labelled_share
    if share == 1:
        return rows_on(rows, context.device)
    if not isinstance(rows, ResidentRows):
        raise InputError(f"labelled_share {share}: needs the resident feed; set feed: resident")
    labelled = LabelledRows(rows, share, derive_seed(context.seed, "labelled"))
    return rows_on(labelled if method.uses_unlabelled_rows else labelled.labelled(), context.device)


def _open(context: Context, split: str) -> RowSource:
    return rows_on(_read(context, split), context.device)


def _read(context: Context, split: str) -> RowSource:
    assert isinstance(context.settings, CtrSettings)
    return context.feed.open(context.dataset, f"{context.settings.split}_{split}", context.purpose)


def _built(context: Context) -> CtrMethod:
    component, method = context.components["backbone"], context.method
    with torch_seeded(derive_seed(context.seed, "backbone")):
        backbone = component.cls(context.dataset.fields, **component.parameters)
    with torch_seeded(derive_seed(context.seed, "method")):
        built: CtrMethod = method.cls(backbone, **method.parameters)
    return built
