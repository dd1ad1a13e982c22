"""Item-KNN's scores of Amazon Beauty's test users: sparse times sparse, beside dense columns, in turns, one thread.

Run as `python -m tests.benchmarks.bench_item_knn [data root]`; without a data root, Beauty is prepared from
`$DIFFBENCH_DATA` into a temporary folder.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import torch
from torch import Tensor

from harness.datasets import catalog
from harness.feed import open_sequences
from harness.tasks.next_item import NextItemSettings
from tests.benchmarks.data_root import with_data_root
from trainables.next_item.item_knn import ItemKNN


class DenseItemKNN(ItemKNN):
    """The plain form: every history's weights of all items are a dense column."""

    def summed_similarities(self, weight_IB: Tensor) -> Tensor:
        summed_IB: Tensor = self.user_IU @ (self.item_UI @ weight_IB)
        return summed_IB


@torch.inference_mode()
def main(data_root: Path) -> None:
    torch.set_num_threads(1)
    beauty = catalog.prepare("amazon-beauty", data_root)
    rankers = [kind(beauty.schema.items, beauty.schema.history_length) for kind in (DenseItemKNN, ItemKNN)]
    for ranker in rankers:
        ranker.prepare(open_sequences(beauty, "train", "repeat"))
    seconds: list[list[float]] = [[], []]
    for batch in open_sequences(beauty, "test", "repeat").batches(NextItemSettings().evaluation_batch_size):
        scores = []
        for ranker, found in zip(rankers, seconds, strict=True):
            begin = time.perf_counter()
            scores.append(ranker.rank_scores(batch))
            found.append(time.perf_counter() - begin)
        torch.testing.assert_close(*scores)
    plain, fast = (1000 * statistics.median(found) for found in seconds)
    print(
        f"Item-KNN: {fast:.0f} ms a batch of histories, dense columns {plain:.0f} ms: {plain / fast:.1f} times as fast"
    )


if __name__ == "__main__":
    with_data_root(main)
