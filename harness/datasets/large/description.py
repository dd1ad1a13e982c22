"""What a large dataset is: its files, its fields, and how its rows are split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from harness.datasets.large.formats import LineFormat
from harness.datasets.raw import KnownFile, Layout, Say

MALFORMED_SHARE = 0.001
"""More malformed lines than this share of a file's lines are an error."""


@dataclass(frozen=True)
class Profiles:
    """A file with a line for each user or item; of several lines for one, the first counts.

    Attributes:
        lines: its format.
        key: the column of the user or item.
        categories: the fields that are categories, and their columns.
        amounts: the fields that are amounts of money, and their columns.
    """

    lines: LineFormat
    key: str
    categories: Mapping[str, str]
    amounts: Mapping[str, str]


@dataclass(frozen=True)
class ColdStart:
    """The splits of `cold_start_split`, with N and K; the fields `timestamp` and `count` are added."""

    hot_above: int
    block: int


@dataclass(frozen=True)
class Clicks:
    """The splits of the task `ctr`: all rows, by time and at random 8:1:1; the hour and the weekday are added.

    By time, the bounds are exact, equal times in the file's order. At random, each row is dealt by a hash of its
    number, so that the shares are 8:1:1 up to chance.
    """


@dataclass(frozen=True)
class LargeDataset:
    """A dataset of the catalog whose rows are never in memory all at once.

    Attributes:
        name: the name in commands and tables.
        title: one line that says what it is.
        folder: where its raw files lie inside a folder of raw data.
        source: where the raw files come from; completes "put … there".
        rows: the format of the file with a line for each interaction.
        user: its column of users.
        item: its column of items.
        time: its column of times, in seconds.
        label: its column that tells whether the interaction is positive.
        positive: the word that says so, where that column holds words.
        context: the fields that are words of this file, and their columns.
        users: the users' file.
        items: the items' file.
        protocol: how the rows are split.
        facts: published counts of the official files; others are noted, not refused.
        version: raised whenever the prepared rows change.
    """

    name: str
    title: str
    folder: str
    source: str
    rows: LineFormat
    user: str
    item: str
    time: str
    label: str
    positive: str
    context: Mapping[str, str]
    users: Profiles
    items: Profiles
    protocol: ColdStart | Clicks
    facts: Mapping[str, int]
    version: int = 1

    kind: ClassVar[Literal["interactions"]] = "interactions"
    item_text: ClassVar[None] = None
    tried: ClassVar[bool] = False

    @property
    def download(self) -> Callable[[Path, Say], None] | None:
        """Return what fetches the raw files into a folder: nothing can."""
        return None

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """The raw files, as the catalog looks for them."""
        return ({lines.file: KnownFile(0) for lines in (self.rows, self.users.lines, self.items.lines)},)
