"""TIGER's ranking of a few histories of Amazon Beauty, against its beam search without a cache.

Run as `python -m tests.benchmarks.bench_tiger [data root [threads]]`; raw files come from $DIFFBENCH_DATA. The T5 and
the items' text, which no time depends on, are random.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

import torch

from harness.datasets.catalog import prepare
from harness.feed import open_sequences
from harness.places import places
from tests.benchmarks.bench_next_item import ranking_seconds
from tests.trainables.next_item.plain_tiger import PlainTIGER
from trainables.next_item.tiger import TIGER

HISTORIES, REPETITIONS = 32, 5


@torch.inference_mode()
def main(data_root: Path, threads: int = 2) -> None:
    torch.set_num_threads(threads)
    beauty = prepare("amazon-beauty", data_root)
    items, length = beauty.schema.items, beauty.schema.history_length
    torch.manual_seed(0)
    text_IE = torch.randn(items, 64)
    cached, plain = (form(items, length, text_IE).eval() for form in (TIGER, PlainTIGER))
    cached.prepare([])  # type: ignore[arg-type]
    plain.load_state_dict(cached.state_dict())
    batch = next(iter(open_sequences(beauty, "test", "repeat").batches(HISTORIES)))
    torch.testing.assert_close(cached.rank_scores(batch), plain.rank_scores(batch), atol=1e-4, rtol=1e-4)
    pairs = [
        (ranking_seconds(cached, batch, HISTORIES), ranking_seconds(plain, batch, HISTORIES))
        for _ in range(REPETITIONS)
    ]
    ratio = statistics.median(slow / fast for fast, slow in pairs)
    seconds = statistics.median(fast for fast, _ in pairs)
    print(f"TIGER: {HISTORIES} test users {seconds:6.2f} s, {ratio:5.2f} × faster than without a cache", flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else places().data, *(int(value) for value in sys.argv[2:]))
