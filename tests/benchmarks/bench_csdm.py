"""CPU time of CSDM's generator step on MovieLens-1M at batch 2,048: by hand, and by autograd on the plain form.

The two alternate in one process, on one thread. Run as `python -m tests.benchmarks.bench_csdm [data root]`; without a
data root, MovieLens-1M is prepared from `$DIFFBENCH_DATA` into a temporary folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from harness.datasets import catalog
from harness.datasets.prepared import PreparedDataset
from harness.feed import open_rows
from tests.benchmarks.data_root import with_data_root
from trainables.cold_start.csdm import CSDM
from trainables.cold_start.generator import EmbeddingGenerator, PreparedBatch
from trainables.cold_start.training import training_only
from trainables.ctr.deepfm import DeepFM

BATCHES = 10
STEPS = 10


def step_seconds(dataset: PreparedDataset) -> tuple[float, float]:
    """Return the median CPU seconds of a step by hand and by autograd."""
    base = open_rows(dataset, "base", "repeat")
    torch.manual_seed(0)
    method = CSDM(DeepFM(dataset.fields), backbone_mode="evaluation")
    method.train()
    method.backbone.eval()
    parameters = method._generator_parameters()
    optimizer = method.optimizer(parameters, method.generator_learning_rate)

    def seconds(gradients: Callable[[PreparedBatch], dict[str, Tensor]], prepared: PreparedBatch) -> float:
        begin = time.thread_time()
        for parameter in parameters:
            parameter.grad = None
        gradients(prepared)
        optimizer.step()
        return time.thread_time() - begin

    forms = (method._gradients, lambda prepared: EmbeddingGenerator._gradients(method, prepared))
    found: tuple[list[float], list[float]] = ([], [])
    with training_only(method, parameters):
        for batch in islice(base.batches(method.batch_size, shuffle_seed=0), BATCHES):
            prepared = method._prepare(base.items, batch)
            for _ in range(STEPS):
                for times, gradients in zip(found, forms, strict=True):
                    times.append(seconds(gradients, prepared))
    return median(found[0]), median(found[1])


def main(data_root: Path) -> None:
    dataset = catalog.prepare("ml-1m", data_root)
    torch.set_num_threads(1)
    by_hand, by_autograd = step_seconds(dataset)
    print(
        f"CSDM, a step of the generator: {1e3 * by_hand:.1f} ms by hand, {1e3 * by_autograd:.1f} ms by autograd"
        f" (ratio {by_autograd / by_hand:.2f})"
    )


if __name__ == "__main__":
    with_data_root(main)
