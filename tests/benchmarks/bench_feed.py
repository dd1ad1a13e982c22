"""Rows a second of the resident feed on MovieLens-1M's base rows, all fields, shuffled.

Run as `python -m tests.benchmarks.bench_feed [data root]`; without a data root, MovieLens-1M is prepared from
`$DIFFBENCH_DATA` into a temporary folder.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch

from harness.datasets import catalog
from harness.feed import open_rows
from tests.benchmarks.data_root import with_data_root

BATCH_SIZES = (2048, 8192)
EPOCHS = 4
GOAL = 5_000_000


def main(data_root: Path) -> None:
    dataset = catalog.prepare("ml-1m", data_root)
    rows = open_rows(dataset, "base", "repeat")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for batch_size in BATCH_SIZES:
            rates = []
            for epoch in range(EPOCHS):
                begin, begin_cpu = time.perf_counter(), time.process_time()
                seen = sum(len(batch) for batch in rows.batches(batch_size, shuffle_seed=epoch))
                rates.append((seen / (time.perf_counter() - begin), seen / (time.process_time() - begin_cpu)))
            wall, cpu = (max(rate) / 1e6 for rate in zip(*rates, strict=True))
            print(
                f"feed, {threads} thread(s), batch {batch_size}: best of {EPOCHS} epochs {wall:.1f} M rows/s"
                f" ({cpu:.1f} M rows per CPU second; goal {GOAL / 1e6:.0f} M)"
            )


if __name__ == "__main__":
    with_data_root(main)
