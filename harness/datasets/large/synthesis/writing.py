"""Writing generated files: chunks of rows by Ray tasks, each drawn by itself, one after the other into the file."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import ray
from numpy.typing import NDArray

from harness.datasets.large.synthesis.about import SYNTHETIC
from harness.datasets.large.synthesis.world import World, sigmoid
from harness.datasets.large.tasks import call, get
from harness.datasets.raw import Say
from harness.errors import DataError, InputError

CHUNK_ROWS = 1 << 18
"""Part of what is drawn: a chunk has random numbers of its own."""
LEAST_ROWS = 10_000
_BINS = 1 << 16
_AHEAD = 6
_LINES = 1 << 16

RowWriter = Callable[[World, int, int], tuple[Any, NDArray[np.float32], NDArray[np.bool_]]]


@dataclass(frozen=True)
class Synthesis:
    """How a dataset is generated.

    Attributes:
        rows: of the official files.
        row_file: the file with a line for each interaction.
        headers: of each file that has one.
        world: makes the world of this many rows, from a seed, with the users and items of so many rows.
        lines: returns some lines of the row file as an Arrow table, their logits and labels.
        profiles: returns the lines of the other files as Arrow tables.
    """

    rows: int
    row_file: str
    headers: dict[str, str]
    world: Callable[[int, int, int], World]
    lines: RowWriter
    profiles: Callable[[World], dict[str, Any]]


def write_synthetic(
    folder: Path, name: str, synthesis: Synthesis, rows: int, seed: int, say: Say, *, world_rows: int
) -> dict[str, Any]:
    """Write the files of a dataset, and `synthetic.json` last; return what that holds.

    The files depend on the rows, the world's rows and the seed alone. Ray must be connected.

    Raises:
        InputError: too few rows, or a world of too few or of more than these.
        DataError: the folder has such files that are not known to be generated, or cannot be written; then they are
            known to be unfinished, and nothing takes them for official ones.
    """
    if rows < LEAST_ROWS:
        raise InputError(f"--rows {rows}: at least {LEAST_ROWS:,}")
    if not LEAST_ROWS <= world_rows <= rows:
        raise InputError(f"--world {world_rows}: from {LEAST_ROWS:,} to the number of rows, {rows:,}")
    _check_not_official(folder, {synthesis.row_file, *synthesis.headers})
    partial = folder / f".{uuid.uuid4().hex[:8]}.partial"
    try:
        partial.mkdir(parents=True)
        about = _write(partial, name, synthesis, rows, seed, say, world_rows)
        files = sorted(partial.iterdir())
        _check_not_official(folder, {path.name for path in files})
        _tell(folder, {"unfinished": True})
        for path in files:
            path.replace(folder / path.name)
        _tell(folder, about)
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error}); nothing new was kept") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return about


def _check_not_official(folder: Path, names: set[str]) -> None:
    present = sorted(name for name in names if (folder / name).exists())
    if present and not (folder / SYNTHETIC).exists():
        raise DataError(f"{folder / present[0]}: may be official, as {SYNTHETIC} is not beside it; take another folder")


def _tell(folder: Path, about: dict[str, Any]) -> None:
    """Say what the files are, in place of what was said before."""
    partial = folder / f".{uuid.uuid4().hex[:8]}.{SYNTHETIC}"
    partial.write_text(json.dumps(about, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / SYNTHETIC)


def chunk_bytes(lines: RowWriter, world: World, first: int, after: int) -> list[Any]:
    """Return the text of some rows, and how many positives and negatives have a logit in each bin, int64 [2, bins]."""
    table, logit_R, label_R = lines(world, first, after)
    sink = pa.BufferOutputStream()
    pa.csv.write_csv(table, sink, _without_header())
    bin_R = (sigmoid(logit_R.astype(np.float64) / 2) * _BINS).astype(np.int64)
    bins = [np.bincount(bin_R[mask_R], minlength=_BINS) for mask_R in (label_R, ~label_R)]
    return [np.frombuffer(sink.getvalue(), dtype=np.uint8), np.array(bins)]


def binned_auc(bins: NDArray[np.int64]) -> float:
    """Return the AUC from how many positives and negatives lie in each of ascending bins; NaN without either."""
    positive, negative = bins.astype(np.float64)
    below = np.cumsum(negative) - negative
    pairs = positive.sum() * negative.sum()
    return float((positive * (below + negative / 2)).sum() / pairs) if pairs else float("nan")


def _without_header() -> Any:
    return pa.csv.WriteOptions(include_header=False, quoting_style="none", batch_size=_LINES)


def _write(
    folder: Path, name: str, synthesis: Synthesis, rows: int, seed: int, say: Say, world_rows: int
) -> dict[str, Any]:
    world = synthesis.world(rows, seed, world_rows)
    shared = ray.put(world)
    chunks = [(first, min(first + CHUNK_ROWS, rows)) for first in range(0, rows, CHUNK_ROWS)]
    bins = np.zeros((2, _BINS), dtype=np.int64)
    started: list[list[Any]] = []
    with (folder / synthesis.row_file).open("wb") as file:
        file.write(synthesis.headers.get(synthesis.row_file, "").encode())
        for number, (_, after) in enumerate(chunks):
            while len(started) < len(chunks) and len(started) < number + _AHEAD:
                started.append(call(chunk_bytes, synthesis.lines, shared, *chunks[len(started)], results=2))
            text, counted = get(started[number])
            started[number] = []
            file.write(text)
            bins += counted
            if after * 10 // rows > (after - CHUNK_ROWS) * 10 // rows:
                say(f"{synthesis.row_file}: {after:,} of {rows:,} rows")
    for file_name, lines in synthesis.profiles(world).items():
        with (folder / file_name).open("wb") as file:
            file.write(synthesis.headers.get(file_name, "").encode())
            pa.csv.write_csv(lines, file, _without_header())
        say(f"{file_name}: {lines.num_rows:,} lines")
    return {
        "dataset": name,
        "rows": rows,
        "world_rows": world_rows,
        "seed": seed,
        "users": world.users,
        "items": world.items,
        "positives": int(bins[0].sum()),
        "rate": round(float(bins[0].sum() / rows), 6),
        "planted_auc": round(binned_auc(bins), 6),
    }
