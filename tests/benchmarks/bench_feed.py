"""Rows a second of the resident feed on MovieLens-1M's base rows, all fields, shuffled.

Run as `python -m tests.benchmarks.bench_feed [data root]`; without a data root, MovieLens-1M is prepared from
`$DIFFBENCH_DATA` into a temporary folder.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

import torch

from harness.datasets import catalog
from harness.feed import open_rows

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
                begin = time.perf_counter()
                seen = sum(len(batch) for batch in rows.batches(batch_size, shuffle_seed=epoch))
                rates.append(seen / (time.perf_counter() - begin))
            best = max(rates)
            print(
                f"feed, {threads} thread(s), batch {batch_size}: {best / 1e6:.1f} M rows/s (goal {GOAL / 1e6:.0f} M), "
                f"epochs {', '.join(f'{rate / 1e6:.1f}' for rate in rates)}"
            )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as folder:
            main(Path(folder))
