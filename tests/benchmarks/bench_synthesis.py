"""Rows a second of the generated stand-ins, with Ray's start and without.

Run as `python -m tests.benchmarks.bench_synthesis [rows]`; two million by default.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import ray

from harness.datasets.large.synthesis.catalog import SYNTHESES, synthesize
from harness.datasets.large.synthesis.writing import CHUNK_ROWS
from harness.datasets.large.tasks import ray_for_data

GOAL = 1_000_000


def main(rows: int = 2_000_000) -> None:
    with ray_for_data(None, 1 << 30):
        cpus = int(ray.cluster_resources()["CPU"])
        ray.get([ray.remote(lambda: time.sleep(0.2)).remote() for _ in range(2 * cpus)])  # the workers are there
        for name, synthesis in SYNTHESES.items():
            with tempfile.TemporaryDirectory() as folder:
                # Every worker has written a chunk: the first one costs its imports.
                synthesize(name, Path(folder), lambda line: None, rows=4 * cpus * CHUNK_ROWS)
                begin = time.perf_counter()
                synthesize(name, Path(folder), lambda line: None, rows=rows)
                rate = rows / (time.perf_counter() - begin)
                lines = f"{synthesis.row_file}, {rows:,} rows and their users and items"
                print(f"synthesis, {cpus} CPU(s): {lines}: {rate / 1e6:.2f} M rows/s (goal {GOAL / 1e6:.0f} M)")


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:2]))
