"""A worker killed at a random step, ten times over: what each run measures, beside one that is left alone.

All runs are one trial of generated rows, DeepFM with dropout, shared by two workers, who leave a checkpoint at every
step. Run as `python -m tests.benchmarks.bench_kills [runs] [workers]`.
"""

from __future__ import annotations

import math
import os
import random
import sys
import tempfile
from pathlib import Path

from harness.cluster import connected
from harness.record import TrialResult
from harness.trial import CHECKPOINT_SECONDS, ROWS_SEEN
from tests.harness.killed_table import killed_table


def main(runs: int = 10, workers: int = 2) -> None:
    os.environ[CHECKPOINT_SECONDS] = "0"
    with tempfile.TemporaryDirectory() as folder, connected(cpus=max(2, workers), imports_ahead=False) as capacity:
        table = killed_table(Path(folder))
        steps = {f"killed {run}": (random.randrange(table.steps),) for run in range(runs)}
        found = table.run({"left alone": (), **steps}, capacity, workers=workers)
        for name, result in found.items():
            where = f"at step {steps[name][0]} of {table.steps}" if name in steps else ""
            unused = ", but was not" if table.left(name) else ""
            print(f"{name} {where}{unused}: {_described(result)}", flush=True)
    alone = found.pop("left alone")
    same_rows = sum(_rows_seen(result) == _rows_seen(alone) for result in found.values())
    same_metrics = sum(result.metrics == alone.metrics for result in found.values())
    print(
        f"{workers} workers, killed once a run: {same_rows} of {runs} runs saw the same number of rows, {same_metrics}"
        f" gave the same metrics, bit for bit (goal: {runs} and {runs})"
    )


def _rows_seen(result: TrialResult) -> float:
    """Return the rows that all workers trained on; NaN, which equals nothing, of a trial that failed."""
    return result.curves[ROWS_SEEN].values[0] if result.status == "finished" else math.nan


def _described(result: TrialResult) -> str:
    if result.status == "failed":
        return f"failed, {result.error}"
    return f"{_rows_seen(result):,.0f} rows seen, cold AUC {result.metrics['test/cold/auc']:.6f}"


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
