"""What an epoch of DGenCTR's pre-training costs against an ordinary one of the same backbone, feed included.

Run as `python -m tests.benchmarks.bench_dgenctr [data root]`; without a data root, MovieLens-1M is prepared from
`$DIFFBENCH_DATA` into a temporary folder. Batches of both alternate in one process, and CPU time is compared.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from harness.datasets import catalog
from harness.datasets.prepared import PreparedDataset
from harness.feed import open_rows
from tests.benchmarks.data_root import with_data_root
from trainables.base import CtrBatch
from trainables.ctr.dcn import DCN
from trainables.ctr.deepfm import DeepFM
from trainables.ctr.dgenctr import DGenCTRPretraining
from trainables.ctr.fm import FM
from trainables.ctr.pnn import PNN
from trainables.ctr.supervised import Supervised, adam
from trainables.ctr.wide_deep import WideDeep
from trainables.layers import EmbeddedCtrModel

BATCHES, WARM_UP, BATCH_SIZE = 40, 8, 2048
GOAL = 3.0


def median_ms(dataset: PreparedDataset, cls: type[EmbeddedCtrModel]) -> tuple[float, float]:
    """Return the milliseconds of CPU time of one batch: of ordinary training, and of pre-training."""
    rows = open_rows(dataset, "time_train", "repeat")
    steps = [_ordinary(cls(dataset.fields)), _pretraining(cls(dataset.fields))]
    feeds = [rows.batches(BATCH_SIZE, shuffle_seed=0) for _ in steps]
    seconds: list[list[float]] = [[], []]
    for _ in range(WARM_UP + BATCHES):
        for feed, step, own in zip(feeds, steps, seconds, strict=True):
            begin = time.process_time()
            for batch in itertools.islice(feed, 1):
                step(batch)
            own.append(time.process_time() - begin)
    ordinary, pretraining = (1000 * float(np.median(own[WARM_UP:])) for own in seconds)
    return ordinary, pretraining


def _ordinary(backbone: EmbeddedCtrModel) -> Callable[[CtrBatch], None]:
    method = Supervised(backbone).train()
    return _step(method.losses, adam(backbone, 1e-3, 1e-6))


def _pretraining(backbone: EmbeddedCtrModel) -> Callable[[CtrBatch], None]:
    method = DGenCTRPretraining(backbone).train()
    return _step(method.denoiser.losses, adam(method.denoiser, 1e-3, 1e-6))


def _step(
    losses: Callable[[CtrBatch], dict[str, Tensor]], optimizer: torch.optim.Optimizer
) -> Callable[[CtrBatch], None]:
    def step(batch: CtrBatch) -> None:
        found = losses(batch)
        optimizer.zero_grad()
        torch.stack(list(found.values())).sum().backward()
        optimizer.step()
        for loss in found.values():
            float(loss.detach())

    return step


def main(data_root: Path) -> None:
    torch.set_num_threads(1)
    dataset = catalog.prepare("ml-1m-ctr", data_root)
    for cls in (DeepFM, FM, WideDeep, DCN, PNN):
        ordinary, pretraining = median_ms(dataset, cls)
        print(
            f"{cls.__name__}: pre-training {pretraining:.1f} ms a batch, ordinary {ordinary:.1f} ms,"
            f" {pretraining / ordinary:.2f} times as long (goal: at most {GOAL:g})"
        )


if __name__ == "__main__":
    with_data_root(main)
