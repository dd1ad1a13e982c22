"""Cold-start click-through rate: how well a model ranks rows of items that it has hardly or never seen.

Legend: N rows of a split, M new items, D embedding size.
"""

from __future__ import annotations

import functools
import math
from contextlib import AbstractContextManager
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from harness.devices import rows_on
from harness.errors import InputError
from harness.metrics.auc import auc, auc_standard_error
from harness.metrics.curves import precision_recall_points, roc_points
from harness.metrics.log_loss import log_loss
from harness.record import PLANTED
from harness.seeding import derive_seed, torch_seeded
from harness.tasks.context import Context, Outcome, joined, planted, stage_seed
from trainables.base import ColdStartMethod, CtrModel, RowSource
from trainables.workers import gathered

STAGES = ("cold", "warm_a", "warm_b", "warm_c")
"""The stages in their order; each is named after the block that was learned last."""

NEW_ITEM_SPLITS = ("warm_a", "warm_b", "warm_c", "test")


class ColdStartSettings(BaseModel):
    """The task's options.

    `count` says what the field `count` knows: `paper` counts all rows, the test rows included, as the published
    programs do (a leak); `leak_free` counts the rows seen up to the stage. `evaluation_batch_size` is in rows and
    does not change the numbers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: Literal["paper", "leak_free"] = "paper"
    evaluation_batch_size: int = Field(default=65536, gt=0)


class ColdStart:
    """Pretrain on hot items, then meet new ones: cold, and after each of three small blocks of their rows.

    The protocol is that of MWUF, CVAR and CSDM (CSDM §Dataset splits). A backbone is pretrained on `base`, the rows
    of hot items; the method adds what it needs; embeddings of the new items are generated, and the rows of `test`,
    all of new items, are ranked (stage `cold`). Then the method learns from `warm_a`, `warm_b` and `warm_c` in turn,
    and the same test rows are ranked after each. Models are evaluated in evaluation mode; AUC is exact, over all test
    rows together.

    A search never sees these rows' outcome. It runs the same protocol one notch up, inside `base`: the least frequent
    of the hot items, at least a fifth of them, play the new ones, and their first rows in time are
    `validation_warm_a` … `validation_warm_c`, the rest `validation_test`; the other hot items' rows are
    `validation_base`. So no row and no label of a truly new item takes part, and what is chosen is chosen for
    meeting new items; a random tenth of the base rows would measure something else, how well known items are ranked.
    The primary metric is the mean AUC of the four stages. A repeat reads the plain splits and measures no validation
    metric; a search cannot open them. Of generated rows `optimum_auc` is what the planted probabilities reach on the
    test rows, which all stages share, and `training_rows` is the number of base rows.

    Each stage draws from a generator of its own that depends on the seed and the stage alone. A method that starts
    from a pretrained checkpoint thus gives the numbers of one that pretrained in the same process, and all methods
    with one seed see the same batches in the same order.
    """

    name = "cold_start"
    version = 1
    primary = "validation/auc"
    metrics = (*(f"{stage}/{name}" for stage in STAGES for name in ("auc", "log_loss")), *PLANTED)
    settings = ColdStartSettings
    base = ColdStartMethod

    def run(self, context: Context) -> Outcome:
        """Run all stages and return each stage's metrics; the checkpoint is the backbone right after pretraining.

        Raises:
            FloatingPointError: a loss or a score is not finite.
            InputError: there is a checkpoint to start from, and the method pretrains its own way.
            ValueError: a split has no rows.
        """
        protocol = _Protocol(context)
        checkpoint = protocol.checkpoints.once("pretrain", protocol.pretrain)
        metrics: dict[str, float] = {}
        arrays: dict[str, NDArray[Any]] = {}
        for stage in STAGES:
            measured, curves = protocol.checkpoints.once(stage, functools.partial(protocol.measure, stage))
            metrics |= measured
            arrays |= {name: curve.numpy() for name, curve in curves.items()}
        if protocol.kind == "validation":
            metrics[self.primary] = float(np.mean([metrics[f"validation/{stage}/auc"] for stage in STAGES]))
        else:
            metrics |= {f"test/{name}": value for name, value in planted(context.dataset, "base", "test").items()}
        return Outcome(metrics, arrays, checkpoint)


class _Protocol:
    """One trial under the protocol: the method, the splits that its purpose may read, and its random streams."""

    def __init__(self, context: Context) -> None:
        assert isinstance(context.settings, ColdStartSettings)
        _check_start(context)
        self._context, self._settings = context, context.settings
        self.kind = "validation" if context.purpose == "search" else "test"
        self._step = 0
        self._method = self._build()
        self.checkpoints = self._method.checkpoints = context.follow(self._method)
        self._new_item_M = torch.cat([self._open(split, "cold").distinct_items() for split in NEW_ITEM_SPLITS]).unique()

    def pretrain(self) -> dict[str, Tensor] | None:
        """Load the pretrained backbone, or train it and return its state where other methods may start from it.

        Raises:
            ValueError: the checkpoint is of another backbone.
        """
        backbone: CtrModel = self._method.backbone
        if self._context.start is not None:
            try:
                backbone.load_state_dict(self._context.start)
            except RuntimeError as error:
                reason = str(error).splitlines()[-1].strip()
                raise ValueError(f"the checkpoint to start from does not fit this backbone: {reason}") from None
            return None
        with self._seeded("pretrain"):
            self._method.pretrain(self._open("base", "cold"), seed=self._order("pretrain"), log=self._log_step)
        if not self._method.shares_pretraining:
            return None
        return {name: tensor.detach().clone() for name, tensor in backbone.state_dict().items()}

    def measure(self, stage: str) -> tuple[dict[str, float], dict[str, Tensor]]:
        """Go from the stage before to this one, and return its metrics and curves."""
        self.learn(stage)
        score_N, label_N = self.score(stage)
        prefix = f"{self.kind}/{stage}"
        metrics = {f"{prefix}/auc": auc(score_N, label_N), f"{prefix}/log_loss": log_loss(score_N, label_N)}
        curves: dict[str, Tensor] = {}
        self.log(f"{prefix}/auc", metrics[f"{prefix}/auc"])
        if self.kind == "test":
            error = auc_standard_error(score_N, label_N)
            if not math.isnan(error):  # of one row of a class there is an AUC, and no error of it
                metrics[f"{prefix}/auc_standard_error"] = error
            curves[f"{prefix}/roc"] = torch.from_numpy(roc_points(score_N, label_N))
            curves[f"{prefix}/pr"] = torch.from_numpy(precision_recall_points(score_N, label_N))
        return metrics, curves

    def learn(self, stage: str) -> None:
        """Go from the stage before to this one; afterwards the new items have the embeddings to evaluate."""
        with self._seeded(stage):
            if stage != "cold":
                block = self._open(stage, stage)
                self._method.adapt(block, self._new_item_M, seed=self._order(stage), log=self._log_step)
                return
            base = self._open("base", stage)
            self._method.fit(base, seed=self._order("fit"), log=self._log_step)
            embedding_MD = self._method.generate(self._open("test", stage).items, self._new_item_M)
            if embedding_MD is not None:
                with torch.no_grad():
                    self._method.backbone.item_embedding[self._new_item_M] = embedding_MD

    @torch.no_grad()
    def score(self, stage: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the probabilities and labels of all test rows, whichever worker scored them, float32 [N].

        Raises:
            ValueError: there is no test row.
            FloatingPointError: a score is not finite.
        """
        rows = self._open("test", stage)
        if len(rows) == 0:
            raise ValueError(f"{stage}: no test rows; the new items have no rows after their three blocks")
        backbone = self._method.backbone.eval()
        scores, labels = [], []
        for batch in rows.batches(self._settings.evaluation_batch_size):
            scores.append(torch.sigmoid(backbone(batch)))
            labels.append(batch.label_B)
        score_N, label_N = gathered(joined(scores)), gathered(joined(labels))
        if not bool(score_N.isfinite().all()):
            raise FloatingPointError(f"{stage}: scores are not finite; lower the learning rate")
        return score_N.cpu().numpy(), label_N.cpu().numpy()

    def log(self, name: str, value: float) -> None:
        """Log a value at the last optimizer step."""
        self._context.log(name, value, self._step)

    def _log_step(self, name: str, value: float, step: int) -> None:
        self._step = step
        self._context.log(name, value, step)

    def _build(self) -> ColdStartMethod:
        component, method = self._context.components["backbone"], self._context.method
        with torch_seeded(derive_seed(self._context.seed, "backbone")):
            backbone = component.cls(self._context.dataset.fields, **component.parameters)
        with torch_seeded(derive_seed(self._context.seed, "method")):
            built: ColdStartMethod = method.cls(backbone, **method.parameters)
        return built

    def _open(self, split: str, stage: str) -> RowSource:
        """Open `base`, a block or `test`, its items counted as of a stage."""
        prefix = "validation_" if self._context.purpose == "search" else ""
        seen = ("base", *STAGES[1 : STAGES.index(stage) + 1])
        counted = tuple(prefix + name for name in seen) if self._settings.count == "leak_free" else None
        rows = self._context.feed.open(
            self._context.dataset, prefix + split, self._context.purpose, count_splits=counted
        )
        return rows_on(rows, self._context.device)

    def _seeded(self, stage: str) -> AbstractContextManager[None]:
        return torch_seeded(stage_seed(self._context, stage))

    def _order(self, stage: str) -> int:
        return derive_seed(self._context.seed, "order", stage)


def _check_start(context: Context) -> None:
    """Refuse a checkpoint that would silently take the place of a method's own pretraining."""
    method = context.method.cls
    if context.start is not None and not method.shares_pretraining:
        raise InputError(
            f"{method.__name__} pretrains its own way, from no other trial; leave starts_from out of its row and name"
            " the backbone there"
        )
