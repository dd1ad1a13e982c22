"""What a sweep costs beside its trials: 40 trials of ten seconds on two CPUs, start-up included.

`python -m tests.benchmarks.bench_sweep [trials] [seconds]`
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from harness.datasets.synthetic import write_small_sequences
from harness.estimate import known_trials
from harness.store import Store

CPUS = 2


def main(trials: int = 40, seconds: float = 10.0) -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = lay_out(Path(folder), trials, seconds)
        command = [sys.executable, "-m", "harness", "run", "bench/sweep", "--published", "--cpus", str(CPUS)]
        started = time.perf_counter()
        subprocess.run(command, check=True, env=environment, capture_output=True)
        wall = time.perf_counter() - started
        spent = sum(record.wall_seconds for record in known_trials(Store(Path(folder) / "runs")))
    print(f"sweep of {trials} trials of {seconds:g} s on {CPUS} CPUs: wall {wall:.1f} s, trials {spent:.1f} s;", end=" ")
    print(f"wall x {CPUS} / trials = {wall * CPUS / spent:.3f}")


def lay_out(folder: Path, trials: int, seconds: float) -> dict[str, str]:
    """Write a table, a method and a small dataset; return the environment that points at them."""
    name = write_small_sequences(folder / "data" / "prepared" / "small-sequences").name
    method = {
        "name": "sleeping",
        "title": "Sleeping",
        "class": "tests.benchmarks.sleeping:Sleeping",
        "version": 1,
        "published": [{"datasets": ["*"], "source": "none", "parameters": {"seconds": seconds}}],
    }
    table = {
        "title": "Sleeping",
        "paper": "none",
        "kind": "cells",
        "task": "next_item",
        "datasets": [name],
        "metrics": ["recall@5"],
        "seeds": list(range(trials)),
        "rows": [{"name": "Sleeping", "method": "sleeping", "parameters": {"maximum_epochs": 1}}],
    }
    (folder / "search_spaces").mkdir()
    (folder / "search_spaces" / "sleeping.yaml").write_text(yaml.safe_dump(method))
    (folder / "results" / "bench" / "sweep").mkdir(parents=True)
    (folder / "results" / "bench" / "sweep" / "table.yaml").write_text(yaml.safe_dump(table))
    (folder / "results" / "bench" / "sweep" / "published.csv").write_text("dataset,row,metric,value,flag\n")
    return os.environ | {
        "DIFFBENCH_HOME": str(folder),
        "DIFFBENCH_RESULTS": str(folder / "results"),
        "DIFFBENCH_SEARCH_SPACES": str(folder / "search_spaces"),
    }


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
