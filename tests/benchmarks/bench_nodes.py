"""What it costs to have the same two cores as one, two or three Ray nodes: a sweep's trials a second.

`python -m tests.benchmarks.bench_nodes [trials] [seconds]`; each trial computes for that much CPU time. Of three nodes
the head has no core of its own.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from harness.cluster import connected
from harness.sweep import run_sweep
from tests.harness.small_table import small_next_item

NODES = {1: (2,), 2: (1, 1), 3: (0, 1, 1)}
"""The logical CPUs of each node, the head first."""

GOAL = 0.10


def main(trials: int = 40, seconds: float = 3.0) -> None:
    rates = {count: trials / _seconds(cpus, trials, seconds) for count, cpus in NODES.items()}
    for count, rate in rates.items():
        print(
            f"{count} node{'s' if count > 1 else ''}: {rate:.3f} trials a second, {rate / rates[1]:.3f} of one node's"
        )
    worst = max(abs(rate / rates[1] - 1) for rate in rates.values())
    print(f"largest difference {100 * worst:.1f} % (goal: at most {100 * GOAL:.0f} %)")


def _seconds(cpus: tuple[int, ...], trials: int, seconds: float) -> float:
    """Return how long a sweep takes on nodes with so many CPUs, from the first trial's start to the last one's end."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": cpus[0], "include_dashboard": False})
    try:
        for count in cpus[1:]:
            cluster.add_node(num_cpus=count)
        with tempfile.TemporaryDirectory() as folder, connected(cluster.address) as capacity:
            row = {"name": "Computes", "method": "computes", "parameters": {"seconds": seconds, "maximum_epochs": 1}}
            small = small_next_item(Path(folder), rows=[row], seeds=list(range(trials)))
            published = [{"datasets": ["*"], "source": "chosen here"}]
            small.add_method("computes", "tests.doubles:Computes", published=published)
            started = time.perf_counter()
            run_sweep(small.schedule(selection="published"), small.places, capacity, lambda schedule: None)
            return time.perf_counter() - started
    finally:
        cluster.shutdown()


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
