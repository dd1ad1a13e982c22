"""What ten trials on one node hold of the data together: their mappings' proportional set size against one copy.

`python -m tests.benchmarks.bench_memory DATASET_FOLDER [processes]`
"""

from __future__ import annotations

import multiprocessing
import sys
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path

from harness.datasets.prepared import open_prepared
from harness.feed import open_rows


def main(folder: str, processes: int = 10) -> None:
    open_rows(open_prepared(Path(folder)), "base", "repeat")  # decodes the columns, once a node
    resident = Path(folder) / "resident"
    one_copy = sum(path.stat().st_size for path in resident.rglob("*.npy"))
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Barrier(processes + 1), context.Event()
    workers = [context.Process(target=read_all, args=(folder, ready, leave)) for _ in range(processes)]
    for worker in workers:
        worker.start()
    ready.wait()
    shared = sum(proportional_set_size(worker.pid or 0, str(resident)) for worker in workers)
    leave.set()
    for worker in workers:
        worker.join()
    print(
        f"data of {processes} processes: {shared / 2**20:.1f} MiB together; one copy on disk {one_copy / 2**20:.1f} MiB"
    )


def read_all(folder: str, ready: Barrier, leave: Event) -> None:
    """Read every row of every split as a trial does, then wait until the memory has been counted."""
    dataset = open_prepared(Path(folder))
    sources = [open_rows(dataset, split, "repeat") for split in dataset.schema.splits]
    for source in sources:
        for _ in source.batches(8192, shuffle_seed=1):
            pass
    ready.wait()
    leave.wait()


def proportional_set_size(process: int, below: str) -> int:
    """Return the bytes that a process's mappings of files below a folder weigh, pages shared by n counted 1/n."""
    total, counts = 0, False
    for line in Path(f"/proc/{process}/smaps").read_text(encoding="utf-8").splitlines():
        words = line.split()
        if "-" in words[0] and not words[0].endswith(":"):
            counts = words[-1].startswith(below)
        elif counts and words[0] == "Pss:":
            total += int(words[1]) * 1024
    return total


if __name__ == "__main__":
    main(sys.argv[1], *(int(argument) for argument in sys.argv[2:]))
