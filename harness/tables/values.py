"""A table's trials, and the values by seed or by user that statistics need of them."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from harness.measured import Measured
from harness.metrics.calibration import Reliability
from harness.metrics.ranking import ndcg_by_user, recall_by_user
from harness.statistics import pooled_standard_error, relative_improvements, user_standard_error
from harness.table_specs import TableSpec, names_of
from harness.tables.counts import AVERAGE_LENGTH, COUNTS
from harness.tables.model import RELATIVE
from harness.training_curve import TrainingCurve

TOLERANCES: Mapping[str, float | str] = {"auc": 0.006, "recall": "10%", "ndcg": "10%"}
"""What counts as reproduced where the table does not say; a percentage is of the published value."""
TOLERANCES_OF_COUNTS: Mapping[str, float | str] = {**dict.fromkeys(COUNTS, 0.0), AVERAGE_LENGTH: 0.005}

Group = tuple[str, str, str]
"""Trials that differ in their seed alone: dataset, row, selection."""


class TableTrials:
    """The trials that a table asks for, by group; others are left out."""

    def __init__(self, spec: TableSpec, measured: Iterable[Measured]) -> None:
        self._baselines = {row.name: spec.baseline_of(row) for row in spec.rows}
        self._groups: dict[Group, list[Measured]] = defaultdict(list)
        rows = {row.name for row in spec.rows}
        for trial in sorted(measured, key=lambda trial: trial.place):
            if trial.dataset in spec.datasets and trial.row in rows and trial.seed in (spec.seeds or (0,)):
                self._groups[trial.dataset, trial.row, trial.selection].append(trial)
        self._ranks = {group: ranks for group in self._groups if (ranks := self._rank_matrix(group)) is not None}

    def __iter__(self) -> Iterator[Group]:
        return iter(self._groups)

    def __getitem__(self, group: Group) -> Sequence[Measured]:
        return self._groups.get(group, ())

    def values(self, group: Group, metric: str) -> dict[int, float]:
        """Return a metric by seed, of the finished trials that have it."""
        stage, _, name = metric.rpartition("/")
        if name == RELATIVE:
            return self._relative_improvements(group, f"{stage}/auc" if stage else "auc")
        finished = [trial for trial in self[group] if trial.status == "finished"]
        return {trial.seed: trial.metrics[f"test/{metric}"] for trial in finished if f"test/{metric}" in trial.metrics}

    def curves(self, group: Group) -> dict[int, TrainingCurve]:
        """Return by seed how the validation metric went, of the finished trials that have it."""
        return {trial.seed: trial.curve for trial in self[group] if trial.curve and trial.status == "finished"}

    def reliability(self, group: Group) -> dict[int, Reliability]:
        """Return by seed how true the probabilities were, of the finished trials that have it."""
        return {t.seed: t.reliability for t in self[group] if t.reliability and t.status == "finished"}

    def ids(self, group: Group) -> set[str]:
        """Return the trials' ids."""
        return {trial.trial_id for trial in self[group]}

    def by_user(self, group: Group, metric: str) -> NDArray[np.float64] | None:
        """Return a ranking metric by seed and user [S, U]; None where the trials rank nothing."""
        kind, _, k = metric.partition("@")
        by_user = {"recall": recall_by_user, "ndcg": ndcg_by_user}.get(kind)
        if by_user is None or not k.isdigit() or group not in self._ranks:
            return None
        value_SU: NDArray[np.float64] = by_user(self._ranks[group], int(k)).numpy()
        return value_SU

    def sampling_error(self, group: Group, metric: str) -> float:
        """Return the standard error over test users where ranks are known, else the one that the trials report."""
        value_SU = self.by_user(group, metric)
        if value_SU is not None:
            return user_standard_error(value_SU)
        name = f"test/{metric}_standard_error"
        return pooled_standard_error([trial.metrics.get(name, math.nan) for trial in self[group]])

    def _relative_improvements(self, group: Group, auc: str) -> dict[int, float]:
        dataset, row, selection = group
        baseline = self._baselines[row]
        if baseline is None:
            return {}
        return relative_improvements(self.values(group, auc), self.values((dataset, baseline, selection), auc))

    def _rank_matrix(self, group: Group) -> torch.Tensor | None:
        """Return ranks by seed and user [S, U]; None without ranks, or where seeds differ in their users."""
        lists = [trial.ranks for trial in self[group] if trial.status == "finished" and trial.ranks is not None]
        if not lists or len({len(ranks) for ranks in lists}) != 1:
            return None
        return torch.from_numpy(np.array(lists, dtype=np.int32))


def tolerance_of(spec: TableSpec, metric: str, published: float) -> float | None:
    """Return what difference from the published value counts as reproduced, in the metric's units.

    None for a metric that is not judged, such as RelaImpr, which is judged through the AUC.
    """
    standard = TOLERANCES_OF_COUNTS if spec.kind == "statistics" else TOLERANCES
    tolerances = {**standard, **spec.tolerance}
    written = next((tolerances[key] for key in names_of(metric) if key in tolerances), None)
    if written is None:
        return None
    return float(written[:-1]) / 100 * abs(published) if isinstance(written, str) else float(written)
