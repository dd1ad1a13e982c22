"""The order in which a split streams: which rows of which row groups, cut into windows whose rows are permuted.

An epoch's plan follows from the seed and a worker's share alone: row groups are permuted whole, the sequence of all
their rows is cut into one piece for each worker, and a piece into windows of some row groups, in each of which the rows
are permuted. So the order does not depend on who reads, nor on how many windows are read at a time, and a worker that
starts again leaves out the plan's beginning.

Legend: G row groups of a split, R rows of a window, C columns of a packed row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.datasets.parts import read_groups, rows_of_groups
from harness.seeding import derive_seed

ROWS_OF_WINDOW = 262_144
"""A window ends with the row group in which it reaches this size: four full ones."""


@dataclass(frozen=True)
class Share:
    """Which worker's part of every batch: `rank` counts from 0."""

    rank: int = 0
    workers: int = 1

    def part(self, rows: int) -> int:
        """Return how many of a batch's rows are this worker's; the parts of all workers add up."""
        return rows * (self.rank + 1) // self.workers - rows * self.rank // self.workers


WHOLE = Share()
"""The share of a single worker."""


@dataclass(frozen=True)
class Group:
    """A row group of a file."""

    path: Path
    number: int
    rows: int


@dataclass(frozen=True)
class Piece:
    """The rows `first` to `after` of a row group."""

    group: Group
    first: int
    after: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.after - self.first

    def read(self) -> NDArray[np.int32]:
        """Return the rows, int32 [R, C]."""
        return read_groups(self.group.path, [self.group.number])[self.first : self.after]


@dataclass(frozen=True)
class Window:
    """Pieces that are read together; `seed` permutes their rows, None leaves them in stored order."""

    pieces: tuple[Piece, ...]
    seed: int | None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(piece.rows for piece in self.pieces)

    def read(self) -> NDArray[np.int32]:
        """Return the rows in their order, int32 [R, C].

        Raises:
            DataError: a file is missing, damaged, or not one of packed rows.
        """
        parts = [piece.read() for piece in self.pieces]
        rows_RC = parts[0] if len(parts) == 1 else np.concatenate(parts)
        if self.seed is None:
            return rows_RC
        return rows_RC.take(np.random.default_rng(self.seed).permutation(len(rows_RC)), axis=0)


def groups_of(files: Sequence[Path]) -> tuple[Group, ...]:
    """Return the row groups of these files, in their order.

    Raises:
        DataError: a file is missing or damaged.
    """
    return tuple(Group(path, number, rows) for path in files for number, rows in enumerate(rows_of_groups(path)))


def batch_sizes(rows: int, batch_size: int, share: Share, *, in_step: bool) -> list[int]:
    """Return the rows of each of a worker's batches, of an epoch over this many rows of all workers.

    Where workers go in step, each batch of `batch_size` rows is divided among them, so that all have the same number of
    batches; a last batch of fewer than two rows a worker is left out, BatchNorm having no variance of one. Otherwise a
    worker cuts its part of the rows by itself. A single worker gets all rows in either case.
    """
    if share.workers == 1 or not in_step:
        own = share.part(rows)
        return [min(batch_size, own - first) for first in range(0, own, batch_size)]
    whole = [min(batch_size, rows - first) for first in range(0, rows, batch_size)]
    return [share.part(size) for size in whole if size >= 2 * share.workers]


def epoch_windows(groups: Sequence[Group], seed: int | None, first: int, after: int) -> list[Window]:
    """Return the windows over the rows `first` to `after` of an epoch's sequence of rows."""
    order_G = np.arange(len(groups)) if seed is None else np.random.default_rng(seed).permutation(len(groups))
    windows: list[Window] = []
    pieces: list[Piece] = []
    for piece in _pieces([groups[place] for place in order_G], first, after):
        pieces.append(piece)
        if sum(gathered.rows for gathered in pieces) >= ROWS_OF_WINDOW:
            windows.append(_window(pieces, seed, first, len(windows)))
            pieces = []
    return [*windows, _window(pieces, seed, first, len(windows))] if pieces else windows


def without_beginning(windows: Sequence[Window], rows: int) -> tuple[list[Window], int]:
    """Leave out the windows that lie in the first `rows` rows; return the others, and the rows to leave out of them."""
    left = list(windows)
    while left and rows >= left[0].rows:
        rows -= left.pop(0).rows
    return left, rows


def _pieces(groups: Sequence[Group], first: int, after: int) -> Iterator[Piece]:
    start = 0
    for group in groups:
        low, high = max(first - start, 0), min(after - start, group.rows)
        if low < high:
            yield Piece(group, low, high)
        start += group.rows


def _window(pieces: Sequence[Piece], seed: int | None, first: int, number: int) -> Window:
    return Window(tuple(pieces), None if seed is None else derive_seed(seed, "window", first, number))
