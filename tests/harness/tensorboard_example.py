from __future__ import annotations

import io
from typing import Any

import numpy as np

from harness.record import Curve, Environment, TrialResult
from harness.specs import TrialSpec
from harness.store import Store
from harness.tensorboard import TrialEntry
from harness.trial import ARRAYS

TABLE = "csdm/table1"
STAGES = ("cold", "warm_a", "warm_b", "warm_c")
ENVIRONMENT = Environment(python="3.11.9", torch="2.13", numpy="2.4", platform="Linux", processor="AVX2", threads=1)


def spec(seed: int, purpose: str = "repeat", task: str = "cold_start", **parameters: Any) -> TrialSpec:
    return TrialSpec.model_validate(
        {
            "task": task,
            "dataset": "ml-1m",
            "dataset_hash": "ab" * 32,
            "method": "csdm",
            "parameters": parameters,
            "versions": {"csdm": 1},
            "seed": seed,
            "threads": 1,
            "purpose": purpose,
        }
    )


def result(trial: TrialSpec, metrics: dict[str, float], points: int = 5, **changes: Any) -> TrialResult:
    steps = [100 * (index + 1) for index in range(points)]
    seconds = [0.25 * (index + 1) for index in range(points)]
    curves = {
        "pretrain/loss": Curve(steps=steps, values=[0.7 / (1 + index) for index in range(points)], seconds=seconds),
        "pretrain/learning_rate": Curve(steps=steps, values=[1e-3] * points, seconds=seconds),
        "pretrain/rows_per_second": Curve(steps=steps, values=[150e3] * points, seconds=seconds),
    }
    content = {
        "id": trial.id,
        "spec": trial,
        "status": "finished",
        "metrics": metrics,
        "curves": curves,
        "environment": ENVIRONMENT,
        "code_hash": "c0de",
        "data_note": "assembled copy",
        "wall_seconds": 12.5,
        "cpu_seconds": 11.0,
        "peak_memory_bytes": 300 * 1024**2,
    }
    return TrialResult.model_validate(content | changes)


def repeat(
    store: Store, seed: int, row: str = "CSDM", points: int = 5, curves: bool = False, **parameters: Any
) -> TrialEntry:
    metrics = {f"test/{stage}/auc": 0.7 + 0.01 * index + seed / 1000 for index, stage in enumerate(STAGES)}
    curve = np.linspace(0, 1, 201, dtype=np.float32)
    arrays: dict[str, np.ndarray] = {}
    for stage in STAGES if curves else ():
        arrays[f"test/{stage}/roc"] = np.stack([curve, np.sqrt(curve)])
        arrays[f"test/{stage}/pr"] = np.stack([curve, 1 - curve / 2])
    trial = result(spec(seed, row=row, **parameters), metrics, points)
    return TrialEntry(store.write(trial, {ARRAYS: archive(arrays)}), "ml-1m", row, "published")


def search_trial(store: Store, number: int, auc: float, **parameters: Any) -> TrialEntry:
    metrics = {"validation/cold/auc": auc - 0.1, "validation/auc": auc}
    trial = result(spec(2024, "search", **parameters), metrics)
    return TrialEntry(store.write(trial, {}), "ml-1m", "CSDM", "tuned", number)


def archive(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()
