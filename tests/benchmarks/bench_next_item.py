"""Times of next-item training and evaluation on Amazon Beauty.

Run as `python -m tests.benchmarks.bench_next_item [data root [threads [size]]]`; raw files come from $DIFFBENCH_DATA.
The baselines at size 64, and PreferDiff at the given size, 3072 unless told, are timed against their plain forms on a
few batches, in turns, and the median batch is multiplied with the batches of an epoch.
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
from harness.places import places
from harness.tasks.next_item import NextItemSettings
from tests.benchmarks.allocation import allocate_as_workers_do
from tests.trainables.next_item.plain_baselines import PlainBERT4Rec, PlainGRU4Rec, PlainSASRec
from tests.trainables.next_item.plain_preferdiff import PlainPreferDiff
from trainables.base import NextItemModel, SequenceBatch
from trainables.next_item.bert4rec import BERT4Rec
from trainables.next_item.dreamrec import DreamRec
from trainables.next_item.gru4rec import GRU4Rec
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


def step_seconds(model: NextItemModel, optimizer: torch.optim.Optimizer, batch: SequenceBatch) -> float:
    return step_times(model, optimizer, batch)[0]


def step_times(model: NextItemModel, optimizer: torch.optim.Optimizer, batch: SequenceBatch) -> tuple[float, float]:
    """Return seconds on the wall, and of the processor."""
    wall_start, cpu_start = time.perf_counter(), time.process_time()
    optimizer.zero_grad(set_to_none=True)
    model.loss(batch).backward()
    optimizer.step()
    return time.perf_counter() - wall_start, time.process_time() - cpu_start


@torch.inference_mode()
def ranking_seconds(model: NextItemModel, batch: SequenceBatch, size: int) -> float:
    start = time.perf_counter()
    for first in range(0, len(batch), size):
        part = slice(first, first + size)
        model.rank_scores(SequenceBatch(batch.history_BL[part], batch.length_B[part], batch.target_B[part]))
    return time.perf_counter() - start


def compare_baselines_with_plain(beauty: PreparedDataset, rounds: int = 15) -> None:
    """Time each baseline's two forms in turns, one batch each."""
    batches = list(open_sequences(beauty, "train", "repeat").batches(256, shuffle_seed=0))
    forms: dict[str, tuple[NextItemModel, NextItemModel]] = {}
    for name, fast, plain in (
        ("SASRec", SASRec, PlainSASRec),
        ("GRU4Rec", GRU4Rec, PlainGRU4Rec),
        ("BERT4Rec", BERT4Rec, PlainBERT4Rec),
    ):
        forms[name] = (fast(beauty.schema.items, beauty.schema.history_length), plain(beauty.schema.items, 10))
    print(f"baselines, size 64: epochs of {len(batches)} batches, extrapolated")
    for name, models in forms.items():
        optimizers = [model.train().optimizer() for model in models]
        times: list[list[tuple[float, float]]] = [[], []]
        for batch in batches[: rounds + 1]:
            for form, model in enumerate(models):
                times[form].append(step_times(model, optimizers[form], batch))
        (wall, cpu), (plain_wall, plain_cpu) = (
            [statistics.median(column) * len(batches) for column in zip(*own[1:], strict=True)] for own in times
        )
        print(
            f"  {name:10} epoch {wall:6.2f} s wall, {cpu:6.2f} s processor;"
            f" {plain_wall / wall:5.2f} × and {plain_cpu / cpu:5.2f} × faster than plain",
            flush=True,
        )


def show_product_rates(size: int, rows: int = 256, rounds: int = 9) -> None:
    """Print how fast a batch is multiplied with a square weight, which bounds every form."""
    for precision in (torch.float32, torch.bfloat16):
        batch_BD, weight_DD = torch.randn(rows, size).to(precision), torch.randn(size, size).to(precision)
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            torch.mm(batch_BD, weight_DD)
            seconds.append(time.perf_counter() - start)
        rate = 2 * rows * size**2 / statistics.median(seconds) / 1e9
        print(f"  a batch times a weight, {str(precision).removeprefix('torch.')}: {rate:5.0f} GFLOP/s", flush=True)


def show_memory_rate(megabytes: int = 256, rounds: int = 9) -> None:
    """Print how fast memory is read and written, which bounds what the optimizer does."""
    source, target = torch.zeros(megabytes, 2**18), torch.empty(megabytes, 2**18)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - start)
    print(f"  memory, read and written: {2 * source.nbytes / statistics.median(seconds) / 1e9:5.1f} GB/s", flush=True)


def compare_with_plain(beauty: PreparedDataset, size: int, rounds: int = 5) -> None:
    """Time PreferDiff's forms in turns: one plain batch, then two of each fast form."""
    items, length = beauty.schema.items, beauty.schema.history_length
    batches = list(open_sequences(beauty, "train", "repeat").batches(256, shuffle_seed=0))
    test = next(iter(open_sequences(beauty, "test", "repeat").batches(256)))
    models = {
        "plain, float32": PlainPreferDiff(items, length, size=size),
        "fast, float32": PreferDiff(items, length, size=size),
        "fast, bfloat16": PreferDiff(items, length, size=size, precision="bfloat16"),
    }
    optimizers = {name: model.train().optimizer() for name, model in models.items()}
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for batch in batches[: rounds + 1]:
        for name, model in models.items():
            seconds[name] += [step_seconds(model, optimizers[name], batch) for _ in range(1 + ("fast" in name))]
    # The first batch of each pays for fresh memory.
    step = {name: statistics.median(values[2 if "fast" in name else 1 :]) for name, values in seconds.items()}
    ranking: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds):
        for name, model in models.items():
            ranking[name].append(ranking_seconds(model.eval(), test, 256 if "fast" in name else 32))
    plain_ranking = statistics.median(ranking["plain, float32"])
    print(f"PreferDiff, size {size}: epochs of {len(batches)} batches, extrapolated; ranking of {len(test)} test users")
    for name in models:
        ranked = statistics.median(ranking[name])
        print(
            f"  {name:16} epoch {step[name] * len(batches):8.1f} s, {step['plain, float32'] / step[name]:5.2f} × plain;"
            f" ranking {ranked:7.3f} s, {plain_ranking / ranked:5.2f} × plain",
            flush=True,
        )


@torch.no_grad()
def compare_chain_with_steps(beauty: PreparedDataset, size: int, timed_steps: int = 100) -> None:
    """Time DreamRec's generation of a batch, and the same from the first of its reverse steps taken one by one."""
    model = DreamRec(beauty.schema.items, beauty.schema.history_length, size=size).eval()
    batch, steps = next(iter(open_sequences(beauty, "test", "repeat").batches(256))), len(model.reverse_steps)
    fast = []
    for _ in range(3):
        start = time.perf_counter()
        model.generate(batch)
        fast.append(time.perf_counter() - start)
    model.reverse_steps = model.reverse_steps[:timed_steps]
    model.sampler = "ddim"  # takes whatever steps there are one by one
    start = time.perf_counter()
    model.generate(batch)
    plain = (time.perf_counter() - start) * steps / timed_steps
    print(
        f"DreamRec, size {size}: {steps:,} steps for {len(batch)} test users {plain:7.2f} s one by one, extrapolated;"
        f" {fast[0]:6.2f} s in stages, {plain / fast[0]:5.1f} ×, while the weights stay the same {fast[-1]:6.2f} s,"
        f" {plain / fast[-1]:5.1f} ×",
        flush=True,
    )


def main(data_root: Path, threads: int = 2, size: int = 3072) -> None:
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
    compare_baselines_with_plain(beauty)
    compare_with_plain(beauty, size)
    compare_chain_with_steps(beauty, size)
    show_product_rates(size)
    show_memory_rate()


if __name__ == "__main__":
    allocate_as_workers_do()
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else places().data, *(int(argument) for argument in sys.argv[2:]))
