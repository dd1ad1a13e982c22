"""Times of next-item training and evaluation on Amazon Beauty.

Run as `python -m tests.benchmarks.bench_next_item <data root> [threads]`; raw files come from $DIFFBENCH_DATA.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from harness.datasets.catalog import prepare
from harness.datasets.prepared import PreparedDataset
from harness.feed import open_sequences
from harness.metrics.ranking import ranks, recall_at
from harness.tasks.next_item import NextItemSettings
from trainables.base import NextItemModel
from trainables.next_item.dreamrec import DreamRec
from trainables.next_item.preferdiff import PreferDiff
from trainables.next_item.sasrec import SASRec

REPETITIONS = 3


def train_epoch(model: NextItemModel, optimizer: torch.optim.Optimizer, beauty: PreparedDataset) -> None:
    model.train()
    for batch in open_sequences(beauty, "train", "repeat").batches(NextItemSettings().batch_size, shuffle_seed=0):
        optimizer.zero_grad(set_to_none=True)
        loss = model.loss(batch)
        loss.backward()
        optimizer.step()
        loss.item()


@torch.inference_mode()
def evaluate(model: NextItemModel, beauty: PreparedDataset) -> float:
    model.eval()
    batches = open_sequences(beauty, "test", "repeat").batches(NextItemSettings().evaluation_batch_size)
    return recall_at(torch.cat([ranks(model.rank_scores(batch), batch.target_B) for batch in batches]), 5)


def show(name: str, action: Callable[[], object]) -> None:
    action()
    wall, cpu = [], []
    for _ in range(REPETITIONS):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        action()
        wall.append(time.perf_counter() - wall_start)
        cpu.append(time.process_time() - cpu_start)
    print(f"{name:42} {statistics.median(wall):8.3f} s wall {statistics.median(cpu):8.3f} s processor", flush=True)


def main(data_root: Path, threads: int = 2) -> None:
    torch.set_num_threads(threads)
    beauty = prepare("amazon-beauty", data_root)
    items, length = beauty.schema.items, beauty.schema.history_length
    torch.manual_seed(0)
    models: list[tuple[str, NextItemModel]] = [
        ("SASRec, size 64", SASRec(items, length)),
        ("PreferDiff, size 256, DDIM", PreferDiff(items, length, size=256)),
        ("DreamRec, size 256, DDPM", DreamRec(items, length, size=256)),
    ]
    print(f"amazon-beauty: {len(open_sequences(beauty, 'train', 'repeat')):,} training examples, {threads} threads")
    for name, model in models:
        optimizer = model.optimizer()
        show(f"{name}: epoch", lambda model=model, optimizer=optimizer: train_epoch(model, optimizer, beauty))  # type: ignore[misc]
        show(f"{name}: test ranking", lambda model=model: evaluate(model, beauty))  # type: ignore[misc]


if __name__ == "__main__":
    main(Path(sys.argv[1]), *(int(argument) for argument in sys.argv[2:]))
