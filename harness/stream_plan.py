"""The order in which a split streams: which rows of which row groups, cut into lanes and windows, their rows permuted.

An epoch's plan follows from the seed and the batch size: row groups are permuted whole, the sequence of all their rows
is cut into a few equal lanes, and a lane into windows of some row groups, in each of which the rows are permuted. A
batch is made of its part of every lane, and a worker takes neighbouring lanes. So a batch has the same rows whether
one, two or four workers share it, whoever reads, and however many windows are read at a time; and a worker that starts
again leaves out the plan's beginning.

Legend: G row groups of a split, E batches of an epoch, R rows of a window, C columns of a packed row.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.datasets.parts import read_groups, rows_of_groups
from harness.seeding import derive_seed

ORDER_VERSION = 2
"""Raised whenever rows would come in another order, and so the numbers of streamed trials would change."""

LANES = 4
"""Lanes of an epoch, where the number of workers divides them: one, two and four do, and a batch has four row groups'
rows. More lanes would mix more, and hold more windows in memory: each lane one."""

ROWS_OF_WINDOW = 32_768
"""A window ends with the row group in which it reaches this size: most windows are one full row group of 65,536."""


@dataclass(frozen=True)
class Share:
    """Which worker's, or which lane's, part of the rows: `rank` counts from 0."""

    rank: int = 0
    workers: int = 1

    def before(self, rows: int) -> int:
        """Return how many of so many rows are of the workers before this one."""
        return rows * self.rank // self.workers

    def part(self, rows: int) -> int:
        """Return how many of so many rows are this worker's; the parts of all workers add up."""
        return rows * (self.rank + 1) // self.workers - self.before(rows)


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


@dataclass(frozen=True)
class Lane:
    """A piece of an epoch's sequence of rows, of which every batch has its part.

    Its windows follow one another; the first `left_out` rows of the first one are not wanted. `part_E` are the rows
    that each batch takes.
    """

    windows: tuple[Window, ...]
    left_out: int
    part_E: tuple[int, ...]


def groups_of(files: Sequence[Path]) -> tuple[Group, ...]:
    """Return the row groups of these files, in their order.

    Raises:
        DataError: a file is missing or damaged.
    """
    return tuple(Group(path, number, rows) for path in files for number, rows in enumerate(rows_of_groups(path)))


def lanes_of(workers: int) -> int:
    """Return into how many lanes an epoch is cut: `LANES`, or the next number above that the workers divide.

    In the latter case, batches have other rows than those of one worker.
    """
    return -(-LANES // workers) * workers


def epoch_lanes(groups: Sequence[Group], batch_size: int, seed: int | None, share: Share, skip: int = 0) -> list[Lane]:
    """Return what a worker reads in an epoch after its first `skip` batches.

    With a seed, each batch of `batch_size` rows is divided among all lanes, and so among the workers, which have the
    same number of batches. Several workers leave out a last batch of fewer than two rows a worker, BatchNorm having no
    variance of one; a single worker gets all rows. Without a seed, a worker has one lane, its part of the rows in
    stored order, and cuts it into batches by itself.
    """
    rows = sum(group.rows for group in groups)
    if seed is None:
        first, own = share.before(rows), share.part(rows)
        full, last = divmod(own, batch_size)
        windows = _windows(groups, first, first + own, lambda number: None)
        return [_lane(windows, [batch_size] * full + [last] * (last > 0), skip)]
    order_G = np.random.default_rng(seed).permutation(len(groups))
    permuted = [groups[place] for place in order_G]
    full, last = divmod(rows, batch_size)
    has_last = last > 0 and (share.workers == 1 or last >= 2 * share.workers)
    count = lanes_of(share.workers)
    lanes = []
    for number in range(share.before(count), share.before(count) + share.part(count)):
        lane = Share(number, count)
        first = full * lane.before(batch_size) + lane.before(last)
        after = first + full * lane.part(batch_size) + lane.part(last)
        windows = _windows(permuted, first, after, functools.partial(derive_seed, seed, "window", number))
        lanes.append(_lane(windows, [lane.part(batch_size)] * full + [lane.part(last)] * has_last, skip))
    return lanes


def in_order_of_need(lanes: Sequence[Lane]) -> list[tuple[int, Window]]:
    """Return the windows that batches take rows of, each with its lane's place, in the order of their first rows."""
    needed: list[tuple[int, int, Window]] = []
    for place, lane in enumerate(lanes):
        taken_E = np.cumsum(lane.part_E)
        begin = -lane.left_out
        for window in lane.windows:
            batch = int(np.searchsorted(taken_E, max(begin, 0), side="right"))
            if batch < len(lane.part_E):
                needed.append((batch, place, window))
            begin += window.rows
    return [(place, window) for _, place, window in sorted(needed, key=lambda entry: entry[:2])]


def _lane(windows: list[Window], part_E: list[int], skip: int) -> Lane:
    """Return a lane without the windows that lie in its first `skip` batches."""
    behind = sum(part_E[:skip])
    while windows and behind >= windows[0].rows:
        behind -= windows.pop(0).rows
    return Lane(tuple(windows), behind, tuple(part_E[skip:]))


def _windows(groups: Sequence[Group], first: int, after: int, seed_of: Callable[[int], int | None]) -> list[Window]:
    """Return the windows over the rows `first` to `after` of a sequence of row groups; `seed_of` takes their number."""
    windows: list[Window] = []
    pieces: list[Piece] = []
    for piece in _pieces(groups, first, after):
        pieces.append(piece)
        if sum(gathered.rows for gathered in pieces) >= ROWS_OF_WINDOW:
            windows.append(Window(tuple(pieces), seed_of(len(windows))))
            pieces = []
    return [*windows, Window(tuple(pieces), seed_of(len(windows)))] if pieces else windows


def _pieces(groups: Sequence[Group], first: int, after: int) -> Iterator[Piece]:
    start = 0
    for group in groups:
        low, high = max(first - start, 0), min(after - start, group.rows)
        if low < high:
            yield Piece(group, low, high)
        start += group.rows
