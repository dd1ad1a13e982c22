"""Preparing a large dataset: the steps, the tasks of each, and the small results that the driver sees.

    rows by blocks ──partition──▶ ranges of items ──join──▶ sorted, with their ads ──pack──▶ files, shuffled by hash
                                       distinct users ──▶ ranges of users, with profiles ──▶ ids ──▲
                                       distinct categories ──▶ ranges of values ──▶ ids ───────────▲

The driver holds references, counts and the vocabularies of the users' fields. What is written does not depend on the
number of blocks, ranges or nodes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import ray
from numpy.typing import NDArray

from harness.datasets.large.atoms import LEAST_CLICKS, Atoms, Bound, click_atoms, cold_start_atoms
from harness.datasets.large.description import MALFORMED_SHARE, ColdStart, LargeDataset, Profiles
from harness.datasets.large.formats import LineFormat
from harness.datasets.large.malformed import check_malformed
from harness.datasets.large.output import write_dataset
from harness.datasets.large.packing import Whole, outputs_of, pack_rows, schema_fields
from harness.datasets.large.partitions import (
    HOURS,
    ItemReport,
    RowReport,
    equal_ranges,
    join_items,
    partition_profiles,
    partition_rows,
)
from harness.datasets.large.reading import BlockReport, byte_ranges, read_blocks, read_range
from harness.datasets.large.selection import count_below, select
from harness.datasets.large.sizes import Sizes, object_store_bytes, sizes_for
from harness.datasets.large.synthesis.about import NUMBERS, read_synthetic
from harness.datasets.large.synthesis.optimum import with_optimum
from harness.datasets.large.tasks import call, call_one, get, ray_for_data, task_errors
from harness.datasets.large.vocabularies import UserReport, answer_users, join_users, rank_values, send_values
from harness.datasets.prepared import SYNTHETIC, InputFile, PreparedDataset, Schema
from harness.datasets.raw import Say
from harness.datasets.writing import whole_folder
from harness.errors import DataError

_SAMPLES, _SAMPLE_BYTES = 64, 1 << 15
_AHEAD = 4
"""Blocks that may wait to be partitioned."""


def prepare_large(
    folder: Path,
    dataset: LargeDataset,
    raw: Path,
    say: Say,
    *,
    inputs: Sequence[InputFile] = (),
    malformed_share: float = MALFORMED_SHARE,
    sizes: Sizes | None = None,
    address: str | None = None,
) -> PreparedDataset:
    """Write a prepared dataset to this folder, replacing what is there only once the new one is whole.

    On a cluster, the folders have to be on storage that all nodes share.

    Args:
        folder: where it goes.
        dataset: what it is.
        raw: the folder of the raw files.
        say: shows progress.
        inputs: what the schema records of the raw files.
        malformed_share: more malformed lines than this share of a file's are an error.
        sizes: how the work is cut; chosen by the size of the rows' file by default.
        address: the Ray cluster; by default the one that this process has joined, or one on this machine.

    Raises:
        DataError: a raw file cannot be read or has too many malformed lines, or the folder cannot be written.
    """
    about = read_synthetic(raw)
    with whole_folder(folder) as partial:
        row_bytes = (raw / dataset.rows.file).stat().st_size
        with ray_for_data(address, object_store_bytes(row_bytes)):
            preparation = _Preparation(dataset, raw, say, malformed_share, sizes or sizes_for(row_bytes))
            schema = preparation.write(partial)
        facts = schema.facts | ({} if about is None else {f"synthetic_{name}": about[name] for name in NUMBERS})
        update = {"synthetic": about is not None, "note": _note(dataset, schema, about), "facts": facts}
        schema = schema.model_copy(update={**update, "inputs": tuple(inputs)})
        if schema.synthetic:
            schema = with_optimum(PreparedDataset(partial, schema))
        (partial / "schema.json").write_text(schema.model_dump_json(indent=2) + "\n", encoding="utf-8")
    return PreparedDataset(folder, schema)


def _note(dataset: LargeDataset, schema: Schema, about: Mapping[str, Any] | None) -> str:
    """Return what goes beside every result: that the rows are generated, or how they differ from what is published."""
    notes = []
    if about is not None:
        world = f" in a world of {about['world_rows']:,}" if about["world_rows"] != about["rows"] else ""
        what = f"{about['rows']:,} generated rows{world}, seed {about['seed']}"
        notes.append(f"{SYNTHETIC}: {what}, not {about['dataset']} itself")
    else:
        measured = {**schema.facts, "users": schema.users, "items": schema.items}
        measured |= {split: known.rows for split, known in schema.splits.items()}
        different = [f"{measured[what]:,} {what} ({n:,})" for what, n in dataset.facts.items() if measured[what] != n]
        notes += [f"other counts than the published ones: {', '.join(different)}"] if different else []
    if schema.facts["malformed_lines"]:
        notes.append(f"{schema.facts['malformed_lines']:,} malformed lines left out")
    return "; ".join(notes)


@dataclass
class _Joined:
    """The ranges of items: their reports, and references to their rows, items, and users of each range of users."""

    reports: list[ItemReport] = field(default_factory=list)
    rows: list[Any] = field(default_factory=list)
    items: list[Any] = field(default_factory=list)
    users: list[list[Any]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """The number of items."""
        return sum(report.items for report in self.reports)

    def counts(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the distinct numbers of rows of an item, ascending, and how many items have each."""
        count_R = np.concatenate([report.counts for report in self.reports])
        items_R = np.concatenate([report.items_of_count for report in self.reports])
        count_I, place_R = np.unique(count_R, return_inverse=True)
        return count_I, np.bincount(place_R, weights=items_R).astype(np.int64)


class _Preparation:
    """One preparation: what its steps share."""

    def __init__(self, dataset: LargeDataset, raw: Path, say: Say, malformed_share: float, sizes: Sizes) -> None:
        self.dataset, self.raw, self.sizes = dataset, raw, sizes
        self._share, self._say = malformed_share, say
        self._started = time.monotonic()
        self._malformed = 0

    def say(self, line: str) -> None:
        """Show a line of progress."""
        self._say(f"{self.dataset.name}: {time.monotonic() - self._started:.0f} s: {line}")

    def write(self, folder: Path) -> Schema:
        """Write all files but `schema.json`, and return what it will hold."""
        dataset = self.dataset
        item_bounds = self._bounds(dataset.item, self.sizes.item_ranges)
        user_bounds = self._bounds(dataset.user, self.sizes.user_ranges)
        user_profiles = self._read_profiles(dataset.users, user_bounds)
        item_profiles = self._read_profiles(dataset.items, item_bounds)
        reports, pieces = self._read(dataset.rows, partition_rows, dataset, item_bounds, ranges=len(item_bounds) + 1)
        self._check(dataset.rows, [report.block for report in reports])
        joined = self._join_items(reports, pieces, item_profiles, user_bounds)
        users, answers = self._answer_users(joined, user_profiles)
        del pieces, item_profiles, user_profiles
        sizes, ranks = self._rank_values(joined)
        whole = self._whole(reports, joined, users, sizes)
        self.say(f"{whole.fields[0].size:,} users and {joined.total:,} items have their ids")
        tables, pieces = self._pack(whole, joined, answers, ranks)
        del answers, ranks
        facts = self._facts(reports, joined)
        return write_dataset(folder, whole, tables, pieces, facts, self.say)

    def _bounds(self, column: str, ranges: int) -> NDArray[np.int64]:
        """Return bounds of ranges of users or items with about as many rows each, from a sample of the file."""
        lines = self.dataset.rows
        found = byte_ranges(self.raw / lines.file, _SAMPLE_BYTES)
        places = np.unique(np.linspace(0, len(found) - 1, _SAMPLES).astype(np.int64))
        return equal_ranges(
            np.concatenate([read_range(found[place], lines).columns[column] for place in places.tolist()]), ranges
        )

    def _read_profiles(self, profiles: Profiles, bounds: NDArray[np.int64]) -> list[list[Any]]:
        reports, pieces = self._read(profiles.lines, partition_profiles, profiles, bounds, ranges=len(bounds) + 1)
        self._check(profiles.lines, reports)
        return pieces

    def _read(
        self, lines: LineFormat, partition: Callable[..., list[Any]], *arguments: Any, ranges: int
    ) -> tuple[list[Any], list[list[Any]]]:
        """Read a file and partition its blocks; return their reports and pieces in the file's order."""
        path = self.raw / lines.file
        pending: list[Any] = []
        started: list[list[Any]] = []
        with task_errors():
            for block in read_blocks(path, lines, self.sizes.block_bytes):
                started.append(call(partition, block, *arguments, results=ranges + 1))
                pending.append(started[-1][0])
                if len(pending) > _AHEAD:
                    _, pending = ray.wait(pending, num_returns=len(pending) - _AHEAD, fetch_local=False)
        found = {
            report.number: (report, parts[1:])
            for report, parts in zip(get([parts[0] for parts in started]), started, strict=True)
        }
        expected = len(byte_ranges(path, self.sizes.block_bytes))
        if len(started) != expected or set(found) != set(range(expected)):
            raise DataError(f"{path}: {expected} blocks expected, {len(found)} different ones of {len(started)} read")
        ordered = [found[number] for number in range(expected)]
        self.say(f"{lines.file}: {sum(report.rows for report, _ in ordered):,} rows in {expected} blocks")
        return [report for report, _ in ordered], [parts for _, parts in ordered]

    def _check(self, lines: LineFormat, reports: Sequence[BlockReport]) -> None:
        self._malformed += check_malformed(lines, reports, self._share, self._say)
        if not sum(report.rows for report in reports):
            raise DataError(f"{self.raw / lines.file}: no rows")

    def _join_items(
        self,
        reports: Sequence[RowReport],
        pieces: Sequence[list[Any]],
        profiles: Sequence[list[Any]],
        user_bounds: NDArray[np.int64],
    ) -> _Joined:
        rows = [report.rows for report in reports]
        first_rows = ray.put(dict(enumerate(np.cumsum([0, *rows[:-1]]).tolist())))
        codes = ray.put({name: self._codes(column, reports) for name, column in self.dataset.context.items()})
        joined = _Joined()
        waiting = []
        for part in range(len(pieces[0])):
            of_part = [of_block[part] for of_block in (*pieces, *profiles)]
            arguments = (self.dataset, first_rows, codes, user_bounds, len(pieces), *of_part)
            report, rows_of, items, *users = call(join_items, *arguments, results=4 + len(user_bounds))
            waiting.append(report)
            joined.rows.append(rows_of)
            joined.items.append(items)
            joined.users.append(users)
            for of_block in (*pieces, *profiles):
                of_block[part] = None  # the task alone holds on to it
        joined.reports = get(waiting)
        self.say(f"{joined.total:,} items in {len(waiting)} ranges")
        return joined

    def _codes(self, column: str, reports: Sequence[RowReport]) -> dict[int, NDArray[Any]]:
        """Return of each block the ids of its words, which are few."""
        known = _words(column, reports)
        return {
            report.number: np.array([known.index(word) for word in report.block.words[column]], dtype=np.int16)
            for report in reports
        }

    def _answer_users(self, joined: _Joined, profiles: Sequence[list[Any]]) -> tuple[list[UserReport], list[list[Any]]]:
        """Return the reports of the ranges of users, and of each range the answers to the ranges of items."""
        ranges, partitions = len(joined.users[0]), len(joined.users)
        started = []
        for part in range(ranges):
            sent = [users[part] for users in joined.users]
            of_part = [of_block[part] for of_block in profiles]
            started.append(call(join_users, self.dataset.users, partitions, *sent, *of_part, results=2))
        reports: list[UserReport] = get([report for report, _ in started])
        values = ray.put(
            {
                name: np.unique(np.concatenate([report.values[name] for report in reports]))
                for name in self.dataset.users.categories
            }
        )
        answers, first = [], 0
        for part, (report, (_, users)) in enumerate(zip(reports, started, strict=True)):
            sent = [of_partition[part] for of_partition in joined.users]
            answers.append(call(answer_users, users, first, values, *sent, results=partitions))
            first += report.users
        joined.users.clear()
        return reports, answers

    def _rank_values(self, joined: _Joined) -> tuple[dict[str, list[int]], list[list[Any]]]:
        """Return the sizes of each item category's ranges of values, and of each range the ranks for each partition."""
        bounds = {
            name: equal_ranges(
                np.concatenate([report.samples[name] for report in joined.reports]), self.sizes.value_ranges
            )
            for name in self.dataset.items.categories
        }
        ranges = max(len(bound) for bound in bounds.values()) + 1
        sent = [call(send_values, items, bounds, ranges, results=ranges) for items in joined.items]
        ranked = [call(rank_values, *(of[part] for of in sent), results=len(sent) + 1) for part in range(ranges)]
        sizes: list[Mapping[str, int]] = get([of_range[0] for of_range in ranked])
        return (
            {name: [of_range[name] for of_range in sizes if name in of_range] for name in bounds},
            [of_range[1:] for of_range in ranked],
        )

    def _whole(
        self,
        reports: Sequence[RowReport],
        joined: _Joined,
        users: Sequence[UserReport],
        value_sizes: Mapping[str, list[int]],
    ) -> Whole:
        cold_start = isinstance(self.dataset.protocol, ColdStart)
        spans = [report.times for report in reports if report.times]
        times = min(low for low, _ in spans), max(high for _, high in spans)
        hours = {
            name: np.unique(np.concatenate([report.hours[name] for report in reports]))
            for name in ([] if cold_start else HOURS)
        }
        sizes = {name: sum(of_ranges) for name, of_ranges in value_sizes.items()}
        for name in self.dataset.users.categories:
            sizes[name] = len(np.unique(np.concatenate([report.values[name] for report in users])))
        for name, column in self.dataset.context.items():
            sizes[name] = len(_words(column, reports))
        amounts: dict[str, tuple[float, float] | None] = {}
        for name in self.dataset.items.amounts:
            known = [span for report in joined.reports if (span := report.amounts[name])]
            amounts[name] = (min(low for low, _ in known), max(high for _, high in known)) if known else None
        return Whole(
            self.dataset,
            self._atoms(joined, times),
            value_sizes,
            schema_fields(self.dataset, sum(report.users for report in users), joined.total, sizes, hours),
            times,
            int(joined.counts()[0][-1]),
            amounts,
            hours,
        )

    def _atoms(self, joined: _Joined, times: tuple[int, int]) -> Atoms:
        if isinstance(self.dataset.protocol, ColdStart):
            return cold_start_atoms(self.dataset.protocol, *joined.counts())
        rows = sum(report.rows for report in joined.reports)
        if rows < LEAST_CLICKS:
            path = self.raw / self.dataset.rows.file
            raise DataError(f"{path}: {rows:,} rows, {LEAST_CLICKS:,} or more are needed to be split 8:1:1; take more")

        def count(column: str, time: int | None) -> Callable[[NDArray[np.int64]], NDArray[np.int64]]:
            return lambda edges: np.sum(get([call_one(count_below, edges, column, time, of) for of in joined.rows]), 0)

        bounds = []
        for tenths in (8, 9):
            at, before = select(count("time", None), rows * tenths // 10, *times)
            row, _ = select(count("row", at), rows * tenths // 10 - before, 0, rows - 1)
            bounds.append(Bound(at, row))
        return click_atoms(rows, bounds)

    def _pack(
        self, whole: Whole, joined: _Joined, answers: Sequence[list[Any]], ranks: Sequence[list[Any]]
    ) -> tuple[list[Any], list[list[Any]]]:
        """Return references to each range's table of items, and to its pieces of the files."""
        everywhere, outputs = ray.put(whole), outputs_of(whole.atoms)
        tables, pieces, first = [], [], 0
        for part, report in enumerate(joined.reports):
            given = [of_range[part] for of_range in (*answers, *ranks)]
            arguments = (everywhere, first, len(answers), joined.rows[part], joined.items[part], *given)
            table, *of_files = call(pack_rows, *arguments, results=1 + len(outputs))
            tables.append(table)
            pieces.append(of_files)
            first += report.items
            joined.rows[part] = joined.items[part] = None
            for of_range in (*answers, *ranks):
                of_range[part] = None
        return tables, pieces

    def _facts(self, reports: Sequence[RowReport], joined: _Joined) -> dict[str, int]:
        count_I, items_I = joined.counts()
        facts = {
            "rows": sum(report.rows for report in reports),
            "positives": sum(report.positives for report in reports),
            "malformed_lines": self._malformed,
        }
        if isinstance(self.dataset.protocol, ColdStart):
            out = count_I < 3 * self.dataset.protocol.block
            hot = ~out & (count_I > self.dataset.protocol.hot_above)
            facts["hot_items"] = int(items_I[hot].sum())
            facts["new_items"] = int(items_I[~hot & ~out].sum())
            facts["left_out_items"] = int(items_I[out].sum())
            facts["largest_count"] = int(count_I[-1])
        return facts


def _words(column: str, reports: Sequence[RowReport]) -> list[str]:
    return sorted({word for report in reports for word in report.block.words[column]})
