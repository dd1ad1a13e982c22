"""Rows a second of the stream, the first batch of each epoch, and its memory; beside Ray Data out of the box.

Eight million generated rows of 18 columns and a label go from Parquet to torch batches of 2,048, shuffled locally. Out
of the box, Ray Data has the same values in one column each, and a shuffle buffer of a block's size.

Run as `python -m tests.benchmarks.bench_stream [parts]`, a part being a million rows.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import ray

from harness.cluster import connected
from harness.datasets.parts import PARTS, ROWS_OF_GROUP, ROWS_OF_PART, write_part
from harness.datasets.prepared import FieldSchema, PreparedDataset, Schema, SplitSchema
from harness.datasets.writing import write_table
from harness.ray_reading import ROWS_OF_BLOCK, read_by_ray
from harness.streaming import open_stream, read_here

COLUMNS, BATCH_SIZE, EPOCHS = 18, 2048, 3
GOAL, GOAL_FIRST, GOAL_MEMORY = 1_000_000, 1.0, 2 * 2**30


def main(parts: int = 8) -> None:
    with tempfile.TemporaryDirectory() as scratch, connected(cpus=2, imports_ahead=False):
        dataset, plain = _generated(Path(scratch), parts)
        here = open_stream(dataset, "base", "repeat", read=read_here)
        by_ray = open_stream(dataset, "base", "repeat", read=read_by_ray)
        _report("read in this process", lambda epoch: (len(b) for b in here.batches(BATCH_SIZE, shuffle_seed=epoch)))
        _report("read by Ray Data", lambda epoch: (len(b) for b in by_ray.batches(BATCH_SIZE, shuffle_seed=epoch)))
        _report("Ray Data out of the box", lambda epoch: _out_of_the_box(plain, epoch))


def _generated(scratch: Path, parts: int) -> tuple[PreparedDataset, Path]:
    """Write the rows twice: packed, and with a column for each field."""
    random = np.random.default_rng(0)
    names = ["user_id", "item_id", *(f"field{number}" for number in range(COLUMNS - 2))]
    folder, plain = scratch / "packed", scratch / "plain"
    (folder / PARTS / "base").mkdir(parents=True)
    plain.mkdir()
    for number in range(parts):
        packed = random.integers(0, 1000, (ROWS_OF_PART, COLUMNS + 1), dtype=np.int32)
        packed[:, -1] = (packed[:, -1] % 2).astype(np.float32).view(np.int32)
        write_part(folder / PARTS / "base" / f"part-{number:05d}.parquet", packed)
        table = pa.table(dict(zip((*names, "label"), packed.T, strict=True)))
        pq.write_table(table, plain / f"{number:05d}.parquet", compression="lz4", row_group_size=ROWS_OF_GROUP)
    roles = {"user_id": "user_id", "item_id": "item_id"}
    fields = [FieldSchema.model_validate(_field(name, roles.get(name, "context"))) for name in names]
    write_table(folder / "items.parquet", {"count_base": np.ones(1000, dtype=np.int32)})
    splits = {"base": SplitSchema(rows=parts * ROWS_OF_PART, search=True, atoms=("base",))}
    schema = Schema(
        name="generated", kind="interactions", layout="parts", version=1, hash="0", inputs=(), fields=tuple(fields),
        items=1000, users=1000, splits=splits,
    )  # fmt: skip
    (folder / "schema.json").write_text(schema.model_dump_json(), encoding="utf-8")
    return PreparedDataset(folder, schema), plain


def _field(name: str, role: str) -> dict[str, object]:
    return {"name": name, "kind": "category", "size": 1000, "role": role}


def _out_of_the_box(plain: Path, epoch: int) -> Iterator[int]:
    data = ray.data.read_parquet(str(plain))
    batches = data.iter_torch_batches(
        batch_size=BATCH_SIZE, local_shuffle_buffer_size=ROWS_OF_BLOCK, local_shuffle_seed=epoch
    )
    return (len(batch["label"]) for batch in batches)


def _report(name: str, epoch_of: Callable[[int], Iterator[int]]) -> None:
    for epoch in range(EPOCHS):
        begin, first, rows, memory = time.perf_counter(), 0.0, 0, []
        for number, size in enumerate(epoch_of(epoch)):
            first = first or time.perf_counter() - begin
            rows += size
            if number % 1000 == 0:
                memory.append(_memory())
        rate = rows / (time.perf_counter() - begin)
        print(
            f"stream, {name}, epoch {epoch}: {rate / 1e6:.2f} M rows/s (goal {GOAL / 1e6:.0f}), first batch after"
            f" {first:.2f} s (goal {GOAL_FIRST:.0f}), memory {max(memory) / 2**20:,.0f} MiB at most,"
            f" {memory[len(memory) // 3] / 2**20:,.0f} after a third (goal {GOAL_MEMORY / 2**20:,.0f})",
            flush=True,
        )


def _memory() -> int:
    """Return this process's proportional set size in bytes: its part of the object store counts, too."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
