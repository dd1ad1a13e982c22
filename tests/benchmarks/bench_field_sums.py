"""The embedded fields of a batch: words added up as they are looked up, beside the plain way, in turns.

The plain way lays out the rows of all words, padding too, and adds them up under a mask. Categories, titles and genres
of MovieLens-1M, batches of 2,048 rows, forward and backward with dense gradients, one thread. Run as
`python -m tests.benchmarks.bench_field_sums [data root]`; without a data root, MovieLens-1M is prepared from
`$DIFFBENCH_DATA` into a temporary folder.
"""

from __future__ import annotations

import itertools
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from harness.datasets import catalog
from harness.feed import open_rows
from tests.benchmarks.data_root import with_data_root
from trainables.layers import FieldSums, gather_rows

BATCHES, WARM_UP, BATCH_SIZE, SIZE = 60, 5, 2048, 16


def plain_sums(sums: FieldSums, columns: Mapping[str, Tensor]) -> Tensor:
    """Return what `FieldSums` with masked padding returns, [B, F, D]."""
    length_F = [field.length for field in sums.fields]
    id_BC = torch.cat([columns[field.name].view(-1, field.length) for field in sums.fields], dim=1)
    index_BC = (id_BC + sums.first_row_C).long()
    rows_BCD = gather_rows(sums.table_VD, index_BC.flatten()).view(*index_BC.shape, -1)
    counted_BCD = rows_BCD * ((id_BC != 0) | ~sums.masked_C).unsqueeze(2)
    return torch.stack([part_BLD.sum(dim=1) for part_BLD in counted_BCD.split(length_F, dim=1)], dim=1)


def main(data_root: Path) -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    dataset = catalog.prepare("ml-1m-ctr", data_root)
    fields = [field for field in dataset.fields if field.kind != "number" and field.role != "item_id"]
    sums, grad_BFD = FieldSums(fields, SIZE), torch.randn(BATCH_SIZE, len(fields), SIZE)
    ways: list[Callable[[FieldSums, Mapping[str, Tensor]], Tensor]] = [plain_sums, FieldSums.forward]
    seconds: list[list[float]] = [[] for _ in ways]
    batches = open_rows(dataset, "time_train", "repeat").batches(BATCH_SIZE, shuffle_seed=0)
    for batch in itertools.islice(batches, WARM_UP + BATCHES):
        for way, found in zip(ways, seconds, strict=True):
            sums.table_VD.grad = None
            begin = time.perf_counter()
            way(sums, batch.columns).backward(grad_BFD)  # type: ignore[no-untyped-call]
            found.append(time.perf_counter() - begin)
    plain, fast = (1000 * statistics.median(found[WARM_UP:]) for found in seconds)
    print(f"embedded fields: {fast:.2f} ms a batch, plain {plain:.2f} ms: {plain / fast:.1f} times as fast")


if __name__ == "__main__":
    with_data_root(main)
