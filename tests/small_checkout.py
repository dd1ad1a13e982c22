"""A checkout in a temporary folder: a table, its methods and a small generated dataset."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from harness.datasets.synthetic import write_small_interactions, write_small_sequences

TABLE = "small/table"
DATASET = "small"
SLEEPING: dict[str, Any] = {
    "name": "sleeping",
    "title": "Sleeping",
    "class": "tests.benchmarks.sleeping:Sleeping",
    "version": 1,
    "published": [{"datasets": ["*"], "source": "none", "parameters": {"number": 7}}],
    "space": {"number": {"low": 0, "high": 1000}},
}


def write_checkout(
    folder: Path,
    rows: Sequence[dict[str, Any]],
    *,
    methods: Sequence[dict[str, Any]] = (SLEEPING,),
    task: str = "next_item",
    table: dict[str, Any] | None = None,
) -> dict[str, str]:
    """Write it; return the environment variables that point at it. `table` adds to or replaces the table's keys."""
    prepared = folder / "data" / "prepared" / DATASET
    write_small_sequences(prepared) if task == "next_item" else write_small_interactions(prepared)
    content = {
        "title": "Small",
        "paper": "none",
        "kind": "cells",
        "task": task,
        "datasets": [DATASET],
        "metrics": ["recall@5", "ndcg@10"] if task == "next_item" else ["cold/auc", "warm_c/auc"],
        "seeds": [0, 1, 2],
        "search": {"trials": 4, "parallel": 2, "seed": 1},
        "rows": list(rows),
    }
    results = folder / "results" / TABLE
    results.mkdir(parents=True)
    (results / "table.yaml").write_text(yaml.safe_dump(content | (table or {})))
    (results / "published.csv").write_text("dataset,row,metric,value,flag\n")
    (folder / "search_spaces").mkdir()
    for method in methods:
        (folder / "search_spaces" / f"{method['name']}.yaml").write_text(yaml.safe_dump(method))
    return {
        "DIFFBENCH_HOME": str(folder),
        "DIFFBENCH_RESULTS": str(folder / "results"),
        "DIFFBENCH_SEARCH_SPACES": str(folder / "search_spaces"),
    }


def process_environment(variables: dict[str, str]) -> dict[str, str]:
    """Return this process's environment with these variables."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DIFFBENCH_")} | variables
