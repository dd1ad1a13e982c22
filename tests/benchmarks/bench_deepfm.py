"""Rows a second of DeepFM's pretraining on MovieLens-1M at batch 2,048, feed included.

Run as `python -m tests.benchmarks.bench_deepfm [data root]`; without a data root, MovieLens-1M is prepared from
`$DIFFBENCH_DATA` into a temporary folder.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from harness.datasets import catalog
from harness.datasets.prepared import PreparedDataset
from harness.feed import open_rows
from tests.benchmarks.data_root import with_data_root
from trainables.cold_start.bare import BareBackbone
from trainables.ctr.deepfm import DeepFM

EPOCHS = 2
GOAL = 150_000


def pretraining_rates(dataset: PreparedDataset) -> tuple[float, float]:
    """Pretrain for one epoch; return rows per second of wall time and per second of CPU time."""
    base = open_rows(dataset, "base", "repeat")
    torch.manual_seed(0)
    method = BareBackbone(DeepFM(dataset.fields))
    begin, begin_cpu = time.perf_counter(), time.process_time()
    method.pretrain(base, seed=0)
    return len(base) / (time.perf_counter() - begin), len(base) / (time.process_time() - begin_cpu)


def main(data_root: Path) -> None:
    dataset = catalog.prepare("ml-1m", data_root)
    for threads in (1, 2):
        torch.set_num_threads(threads)
        rates = [pretraining_rates(dataset) for _ in range(EPOCHS)]
        wall, cpu = (max(rate) for rate in zip(*rates, strict=True))
        print(
            f"DeepFM, {threads} thread(s): best of {EPOCHS} epochs {wall:,.0f} rows/s"
            f" ({cpu:,.0f} rows per CPU second; goal {GOAL:,})"
        )


if __name__ == "__main__":
    with_data_root(main)
