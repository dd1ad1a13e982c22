"""How a trial's task gets its rows: resident or streamed, all of them or a worker's share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from harness.datasets.prepared import PreparedDataset
from harness.errors import InputError
from harness.feed import check_split, open_rows
from harness.packed_columns import joined_columns
from harness.resident_parts import open_resident_parts
from harness.specs import FeedKind, Purpose
from harness.stream_plan import WHOLE, Share
from harness.streamed_tables import in_parts
from harness.streaming import Read, open_stream, read_here
from trainables.base import RowSource

RESIDENT_BYTES = 2**30
"""Rows that take no more than this are resident by default. Not a machine's memory: numbers depend on it."""


@dataclass(frozen=True)
class Feed:
    """Opens the splits of click-through-rate datasets for a task, in one of two ways.

    `resident` maps all rows once a node, `stream` never has more than some windows of them; orders differ, so the
    numbers do. `share` and `read` are the stream's: which worker's part of the rows, and who reads them.
    """

    kind: FeedKind = "resident"
    share: Share = WHOLE
    read: Read = read_here

    def open(
        self, dataset: PreparedDataset, split: str, purpose: Purpose, *, count_splits: tuple[str, ...] | None = None
    ) -> RowSource:
        """Open a split; for arguments and errors see `harness.feed.open_rows`."""
        if self.kind == "stream":
            for name in (split, *(count_splits or ())):
                check_split(dataset, name, purpose, "interactions")
            return open_stream(
                in_parts(dataset), split, purpose, count_splits=count_splits, share=self.share, read=self.read
            )
        if dataset.schema.layout == "parts":
            for name in (split, *(count_splits or ())):
                check_split(dataset, name, purpose, "interactions")
            return open_resident_parts(dataset, split, count_splits)
        return open_rows(dataset, split, purpose, count_splits=count_splits)


RESIDENT = Feed()
"""The feed of a trial that says nothing of it."""


def chosen_feed(asked: Literal["auto", "resident", "stream"], workers: int, dataset: PreparedDataset) -> FeedKind:
    """Return what a table's `feed` comes to on a dataset: `auto` follows its size, several workers always stream.

    Raises:
        InputError: sequences are to be streamed; they are always resident.
    """
    if dataset.schema.kind == "sequences":
        if asked == "stream" or workers > 1:
            raise InputError(f"{dataset.name}: sequences are resident; remove feed: stream and workers")
        return "resident"
    if asked != "auto":
        return asked
    if workers > 1:
        return "stream"
    rows = max((split.rows for split in dataset.schema.splits.values()), default=0)
    return "stream" if rows * joined_columns(dataset.fields).width * 4 > RESIDENT_BYTES else "resident"
