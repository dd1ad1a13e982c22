"""From blocks in the file's order to partitions by ranges of items, sorted by item and time, joined with the ads.

Each function here is one Ray task: it sees one block or one partition, and returns a piece for every partition of the
next step.

Legend: R rows, I items of a partition, U distinct users of a partition, K partitions of items, P partitions of users.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.large.description import LargeDataset, Profiles
from harness.datasets.large.formats import NO_PROFILE, Columns, narrow
from harness.datasets.large.reading import BlockReport, unpack_block
from harness.datasets.movielens_clicks import DAY, FIRST_WEEKDAY, HOUR

HOURS = ("hour", "weekday")
SAMPLE = 64
"""Values of a field that a partition reports, so that ranges of equal size can be chosen."""


@dataclass(frozen=True)
class RowReport:
    """A block's report, and what its rows say: the positives, the first and last time, the hours and the weekdays."""

    block: BlockReport
    positives: int
    times: tuple[int, int] | None
    hours: Mapping[str, NDArray[np.int64]]

    @property
    def number(self) -> int:
        """The block's number."""
        return self.block.number

    @property
    def rows(self) -> int:
        """The block's number of rows."""
        return self.block.rows


@dataclass(frozen=True)
class ItemReport:
    """What a partition of items holds.

    Attributes:
        items: I.
        rows: R.
        counts: the distinct numbers of rows that its items have, ascending.
        items_of_count: how many items have each of these.
        samples: of each category, some values, evenly spaced among the distinct ones.
        amounts: of each amount, the smallest and largest logarithm; None where there is none.
    """

    items: int
    rows: int
    counts: NDArray[np.int64]
    items_of_count: NDArray[np.int64]
    samples: Mapping[str, NDArray[np.int64]]
    amounts: Mapping[str, tuple[float, float] | None]


def partition_rows(block: Any, dataset: LargeDataset, item_bounds: NDArray[np.int64]) -> list[Any]:
    """Return the block's report and its rows of each of the K ranges of items, in the file's order."""
    report, columns = unpack_block(block)
    label = columns[dataset.label]
    if dataset.positive:
        words = np.array([*report.words[dataset.label], ""], dtype=np.str_)
        label = (words == dataset.positive)[label]
    time = columns[dataset.time]
    kept = {
        "item": columns[dataset.item],
        "user": columns[dataset.user],
        "time": time,
        "label": label.astype(np.int8),
        "place": np.arange(report.rows, dtype=np.int32),
        **{name: columns[column] for name, column in dataset.context.items()},
    }
    times = (int(time.min()), int(time.max())) if report.rows else None
    hours = {name: np.unique(hour_or_weekday(name, time.astype(np.int64))) for name in HOURS}
    return [
        RowReport(report, int(label.sum()), times, hours),
        *({"block": report.number, **piece} for piece in split_columns(kept, kept["item"], item_bounds)),
    ]


def partition_profiles(block: Any, profiles: Profiles, bounds: NDArray[np.int64]) -> list[Any]:
    """Return the block's report and its lines of each range of users or items, in the file's order."""
    report, columns = unpack_block(block)
    return [
        report,
        *({"block": report.number, **piece} for piece in split_columns(columns, columns[profiles.key], bounds)),
    ]


def split_columns(columns: Columns, key_R: NDArray[Any], bounds: NDArray[np.int64]) -> list[dict[str, NDArray[Any]]]:
    """Return the rows of each range of keys, in their order; range k begins at bound k-1."""
    part_R = np.searchsorted(bounds, key_R, side="right").astype(np.int16)
    return split_by(columns, part_R, len(bounds) + 1)


def split_by(columns: Columns, part_R: NDArray[Any], parts: int) -> list[dict[str, NDArray[Any]]]:
    """Return the rows of each part 0 … parts-1, in their order."""
    order_R = np.argsort(part_R, kind="stable")
    sorted_columns = {name: values_R[order_R] for name, values_R in columns.items()}
    cuts = np.searchsorted(part_R[order_R], np.arange(parts + 1))
    return [
        {name: values_R[low:high] for name, values_R in sorted_columns.items()}
        for low, high in zip(cuts[:-1].tolist(), cuts[1:].tolist(), strict=True)
    ]


def join_items(
    dataset: LargeDataset,
    first_rows: Mapping[int, int],
    codes: Mapping[str, Mapping[int, NDArray[Any]]],
    user_bounds: NDArray[np.int64],
    blocks: int,
    *pieces: Mapping[str, Any],
) -> list[Any]:
    """Put one partition of items together.

    Args:
        dataset: what it is part of.
        first_rows: of each block, the number of its first row in the file.
        codes: of each context field and block, the ids of its words.
        user_bounds: where the P ranges of users begin, the first one's left out.
        blocks: how many of the pieces are rows; the others are of the items' profiles.
        pieces: the pieces of all blocks, the two files one after the other.

    Returns:
        The `ItemReport`; the rows, sorted by item, time and the file's order (`item` and `user` as indices of the
        partition's items and of its distinct users); the items with their profiles; and the distinct users of each
        range of users, ascending.
    """
    of_rows = sorted(pieces[:blocks], key=lambda piece: piece["block"])
    raw = {name: np.concatenate([piece[name] for piece in of_rows]) for name in ("item", "user", "time", "label")}
    for name, ids in codes.items():
        raw[name] = np.concatenate([ids[piece["block"]][piece[name]] for piece in of_rows])
    raw["row"] = np.concatenate([piece["place"].astype(np.int64) + first_rows[piece["block"]] for piece in of_rows])
    order_R = np.lexsort((raw["time"], raw["item"]))  # stable: equal times keep the file's order
    item_I, item_R, count_I = np.unique(raw.pop("item")[order_R], return_inverse=True, return_counts=True)
    user_U, user_R = np.unique(raw.pop("user"), return_inverse=True)
    rows = {name: narrow(values[order_R]) for name, values in {**raw, "user": user_R}.items()}
    rows["item"] = narrow(item_R)
    items = {"item": item_I, "count": count_I, **joined(item_I, dataset.items, pieces[blocks:])}
    users = split_columns({"user": narrow(user_U)}, user_U, user_bounds)
    return [_item_report(dataset, items), rows, items, *(piece["user"] for piece in users)]


def joined(key_V: NDArray[Any], profiles: Profiles, pieces: Sequence[Mapping[str, Any]]) -> dict[str, NDArray[Any]]:
    """Return the fields of these users or items, which are distinct: `NO_PROFILE` and NaN where there is no line."""
    in_order = sorted(pieces, key=lambda piece: piece["block"])
    key_L = np.concatenate([piece[profiles.key] for piece in in_order])
    known, first = np.unique(key_L, return_index=True)  # of several lines for one, the first
    place_V = np.minimum(np.searchsorted(known, key_V), max(len(known) - 1, 0))
    found_V = known[place_V] == key_V if len(known) else np.zeros(len(key_V), dtype=np.bool_)
    fields: dict[str, NDArray[Any]] = {}
    for name, column in (*profiles.categories.items(), *profiles.amounts.items()):
        amount = name in profiles.amounts
        value_V = np.full(len(key_V), np.nan if amount else NO_PROFILE, dtype=np.float64 if amount else np.int64)
        value_L = np.concatenate([piece[column] for piece in in_order])
        value_V[found_V] = value_L[first][place_V[found_V]]
        fields[name] = value_V
    return fields


def hour_or_weekday(name: str, time_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the field `hour` or `weekday` of times in seconds; see `movielens_clicks`."""
    hour_R: NDArray[np.int64] = time_R % DAY // HOUR
    return hour_R if name == "hour" else (time_R // DAY + FIRST_WEEKDAY) % 7


def log_amount(amount_I: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ln(1 + amount): prices reach from a hundredth to a hundred million."""
    return np.log1p(amount_I)


def _item_report(dataset: LargeDataset, items: Columns) -> ItemReport:
    counts, items_of_count = np.unique(items["count"], return_counts=True)
    amounts: dict[str, tuple[float, float] | None] = {}
    for name in dataset.items.amounts:
        known = log_amount(items[name][~np.isnan(items[name])])
        amounts[name] = (float(known.min()), float(known.max())) if len(known) else None
    samples = {name: sampled(np.unique(items[name])) for name in dataset.items.categories}
    return ItemReport(len(items["item"]), int(items["count"].sum()), counts, items_of_count, samples, amounts)


def sampled(sorted_V: NDArray[Any]) -> NDArray[np.int64]:
    """Return at most `SAMPLE` of these values, evenly spaced."""
    places = np.linspace(0, len(sorted_V) - 1, min(SAMPLE, len(sorted_V))).astype(np.int64)
    return sorted_V[places].astype(np.int64)


def equal_ranges(sample: NDArray[np.int64], parts: int) -> NDArray[np.int64]:
    """Return bounds that cut a sample into at most this many ranges of about one size; none if it has one value."""
    ordered = np.sort(sample)
    places = np.arange(1, parts) * len(ordered) // parts
    return np.unique(ordered[places]) if len(ordered) else np.empty(0, dtype=np.int64)
