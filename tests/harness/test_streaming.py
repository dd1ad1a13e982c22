"""The stream against the resident feed: the same rows, the same columns, in an order that follows from the seed.

Legend: R rows, C columns of a packed row.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from harness import stream_plan
from harness.datasets.parts import read_groups
from harness.datasets.prepared import FieldSchema, PreparedDataset, SplitSchema, open_prepared
from harness.datasets.synthetic import write_small_interactions, write_small_sequences
from harness.errors import DataError, InputError, TestDataError
from harness.feed import open_rows
from harness.feeds import Feed, chosen_feed
from harness.resident_parts import ResidentParts
from harness.stream_plan import LANES, Group, Share, Window, epoch_lanes
from harness.streamed_tables import in_parts
from harness.streaming import StreamedRows, open_stream, read_here
from tests.harness.batches import joined
from tests.harness.click_log import ITEMS, write_click_log
from tests.harness.prepared_anew import prepare_anew
from trainables.base import CtrBatch, RowSource


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return write_small_interactions(tmp_path_factory.mktemp("prepared") / "small")


@pytest.fixture(scope="module")
def parts(tables: PreparedDataset) -> PreparedDataset:
    """The same rows in parts whose row groups hold 100 rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("harness.datasets.parts.ROWS_OF_GROUP", 100)
        return in_parts(tables)


@pytest.fixture(autouse=True)
def _small_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_plan, "ROWS_OF_WINDOW", 100)


def as_rows(batches: Iterator[CtrBatch]) -> list[tuple[float, ...]]:
    columns = joined(batches)
    width = [column.reshape(len(column), -1).astype(np.float64) for column in columns.values()]
    return [tuple(row) for row in np.concatenate(width, axis=1).tolist()]


@pytest.mark.parametrize("split", ["base", "warm_b", "test", "validation_test"])
def test_a_split_has_the_rows_and_columns_of_the_resident_feed(
    tables: PreparedDataset, parts: PreparedDataset, split: str
) -> None:
    expected = open_rows(tables, split, "repeat")
    for found in (open_stream(parts, split, "repeat"), Feed().open(parts, split, "repeat")):
        assert len(found) == len(expected)
        assert sorted(as_rows(found.batches(64))) == sorted(as_rows(expected.batches(64)))
        assert sorted(as_rows(found.batches(64, shuffle_seed=5))) == sorted(as_rows(expected.batches(64)))
        assert torch.equal(found.distinct_items(), expected.distinct_items())
        assert list(found.items.columns) == list(expected.items.columns)
        for name, column in expected.items.columns.items():
            assert torch.equal(found.items.columns[name], column) and found.items.columns[name].dtype == column.dtype
        batch, other = next(found.batches(9)), next(expected.batches(9))
        assert list(batch.columns) == list(other.columns)
        for name, column in other.columns.items():
            assert batch.columns[name].dtype == column.dtype and batch.columns[name].shape == column.shape


def test_both_readers_of_parts_have_one_stored_order(parts: PreparedDataset) -> None:
    stream, resident = open_stream(parts, "base", "repeat"), Feed().open(parts, "base", "repeat")
    assert isinstance(resident, ResidentParts)
    assert as_rows(stream.batches(77)) == as_rows(resident.batches(64))


def test_counts_without_the_leak_are_those_of_the_resident_feed(
    tables: PreparedDataset, parts: PreparedDataset
) -> None:
    counted = ("base", "warm_a", "warm_b")
    expected = open_rows(tables, "test", "repeat", count_splits=counted)
    for feed in (Feed("stream"), Feed()):
        found = feed.open(parts, "test", "repeat", count_splits=counted)
        assert torch.equal(found.items.columns["count"], expected.items.columns["count"])
        assert sorted(as_rows(found.batches(64))) == sorted(as_rows(expected.batches(64)))


def test_quarters_are_those_of_the_resident_feed_and_stay_aligned(
    tables: PreparedDataset, parts: PreparedDataset
) -> None:
    expected = [sorted(as_rows(rows.batches(64))) for rows in open_rows(tables, "base", "repeat").item_quarters(1)]
    for feed in (Feed("stream"), Feed()):
        quarters = feed.open(parts, "base", "repeat").item_quarters(7)
        assert [sorted(as_rows(quarter.batches(64))) for quarter in quarters] == expected
        items = [joined(quarter.batches(50))["item_id"].tolist() for quarter in quarters]
        assert items[0] == items[1] == items[2] == items[3] != sorted(items[0])
        again = feed.open(parts, "base", "repeat").item_quarters(8)[0]
        assert joined(again.batches(50))["item_id"].tolist() != items[0]


def test_the_order_follows_from_the_seed_and_the_batch_size(parts: PreparedDataset) -> None:
    def order(seed: int, batch_size: int = 64) -> list[tuple[float, ...]]:
        return as_rows(open_stream(parts, "base", "repeat").batches(batch_size, shuffle_seed=seed))

    state = torch.get_rng_state()
    assert order(3) == order(3)
    assert order(3) != order(4)
    assert sorted(order(3)) == sorted(order(3, batch_size=999)) == sorted(order(4))
    assert torch.equal(state, torch.get_rng_state())


def test_who_reads_does_not_change_the_order(parts: PreparedDataset) -> None:
    def in_one_piece(windows: Sequence[Window], columns: int) -> Iterator[NDArray[np.int32]]:
        yield np.concatenate(list(read_here(windows, columns)))

    def row_by_row(windows: Sequence[Window], columns: int) -> Iterator[NDArray[np.int32]]:
        for window in windows:
            yield from np.split(window.read(), window.rows)

    plain = as_rows(open_stream(parts, "base", "repeat").batches(64, shuffle_seed=3))
    for read in (in_one_piece, row_by_row):
        assert as_rows(open_stream(parts, "base", "repeat", read=read).batches(64, shuffle_seed=3)) == plain


def test_neighbours_of_the_stored_order_are_shuffled_apart(parts: PreparedDataset) -> None:
    rows = open_stream(parts, "base", "repeat")
    place = {row: number for number, row in enumerate(as_rows(rows.batches(64)))}
    shuffled = [place[row] for row in as_rows(rows.batches(64, shuffle_seed=1))]
    steps = np.abs(np.diff(shuffled))
    assert np.mean(steps == 1) < 0.05
    groups = np.array(shuffled) // 100
    first = set(groups[:64].tolist())
    assert LANES <= len(first) <= 2 * LANES, "a batch has the rows of every lane's window, of one or two row groups"
    assert len(set(groups.tolist())) > 2 * LANES


@pytest.mark.parametrize("skip", [1, 7, 12, 10**6])
def test_skipped_batches_are_the_first_ones(tables: PreparedDataset, parts: PreparedDataset, skip: int) -> None:
    sources: list[RowSource] = [open_rows(tables, "base", "repeat"), Feed("stream").open(parts, "base", "repeat")]
    for source in (*sources, sources[1].item_quarters(2)[1]):
        whole = [batch.label_B.tolist() for batch in source.batches(64, shuffle_seed=3)]
        assert [batch.label_B.tolist() for batch in source.batches(64, shuffle_seed=3, skip=skip)] == whole[skip:]


def batches_of_workers(dataset: PreparedDataset, workers: int, quarter: int | None = None) -> list[list[CtrBatch]]:
    """Return the batches of 64 rows of every worker, of `base` or of a quarter of it."""
    shares = [open_stream(dataset, "base", "repeat", share=Share(rank, workers)) for rank in range(workers)]
    sources = [share if quarter is None else share.item_quarters(1)[quarter] for share in shares]
    return [list(source.batches(64, shuffle_seed=3)) for source in sources]


@pytest.mark.parametrize("quarter", [None, 0, 2])
@pytest.mark.parametrize("workers", [2, 4])
def test_a_batch_has_the_same_rows_whoever_shares_it(parts: PreparedDataset, workers: int, quarter: int | None) -> None:
    (alone,) = batches_of_workers(parts, 1, quarter)
    found = batches_of_workers(parts, workers, quarter)
    assert len(alone) > 5
    for number, batch in enumerate(alone):
        assert as_rows(iter(own[number] for own in found)) == as_rows(iter([batch]))
    assert {len(own) for own in found} == {len(alone)}


@pytest.mark.parametrize("workers", [2, 3, 4, 5, 8])
def test_workers_share_every_batch_of_an_epoch(parts: PreparedDataset, workers: int) -> None:
    found = batches_of_workers(parts, workers)
    assert len({len(batches) for batches in found}) == 1
    sizes = np.array([[len(batch) for batch in batches] for batches in found])
    assert set(sizes.sum(axis=0)[:-1].tolist()) == {64}
    assert sizes.min() >= 2 and np.ptp(sizes, axis=0).max() <= 1
    whole = as_rows(open_stream(parts, "base", "repeat").batches(64))
    together = [row for batches in found for row in as_rows(iter(batches))]
    left_out = len(whole) - len(together)
    assert left_out in (0, len(whole) % 64) and left_out < 2 * workers
    assert len(set(together)) == len(together) and set(together) <= set(whole)
    assert len({len(batches) for batches in batches_of_workers(parts, workers, 2)}) == 1


@pytest.mark.parametrize(("rows", "batch_size"), [(1, 8), (7, 8), (130, 64), (1000, 3), (1003, 100), (999, 2)])
def test_lanes_cover_an_epoch_whatever_its_batches(rows: int, batch_size: int) -> None:
    groups = [Group(Path("part"), number, min(100, rows - first)) for number, first in enumerate(range(0, rows, 100))]
    for workers in (1, 2, 3):
        sizes, seen = [], []
        for rank in range(workers):
            lanes = epoch_lanes(groups, batch_size, 5, Share(rank, workers))
            sizes.append(np.sum([lane.part_E for lane in lanes], axis=0))
            for lane in lanes:
                pieces = [piece for window in lane.windows for piece in window.pieces]
                seen += [(piece.group.number, row) for piece in pieces for row in range(piece.first, piece.after)]
        assert len(set(seen)) == len(seen) == rows
        last = rows % batch_size
        assert rows - int(np.sum(sizes)) == (last if workers > 1 and last < 2 * workers else 0)


def test_workers_score_every_row_once(parts: PreparedDataset) -> None:
    shares = [open_stream(parts, "test", "repeat", share=Share(rank, 3)) for rank in range(3)]
    together = [row for share in shares for row in as_rows(share.batches(50))]
    assert together == as_rows(open_stream(parts, "test", "repeat").batches(64))


def test_a_search_cannot_stream_test_rows(tables: PreparedDataset, parts: PreparedDataset) -> None:
    for dataset in (tables, parts):
        with pytest.raises(TestDataError, match="'test'"):
            Feed("stream").open(dataset, "test", "search")
        with pytest.raises(TestDataError, match="'warm_a'"):
            Feed("stream").open(dataset, "validation_base", "search", count_splits=("warm_a",))
    with pytest.raises(TestDataError, match="'test'"):
        Feed().open(parts, "test", "search")


def test_what_cannot_be_streamed_is_told(parts: PreparedDataset, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'base'"):
        open_stream(parts, "bases", "repeat")
    with pytest.raises(InputError, match="no quarters of 'test'"):
        open_stream(parts, "test", "repeat").item_quarters(0)
    with pytest.raises(InputError, match="interactions are needed"):
        Feed("stream").open(write_small_sequences(tmp_path / "sequences"), "train", "repeat")
    damaged = write_small_interactions(tmp_path / "damaged")
    folder = in_parts(damaged).folder
    next((folder / "parts").glob("*/part-00000.parquet")).write_bytes(b"no longer parquet")
    with pytest.raises(DataError, match="cannot be read"):
        for split in damaged.schema.splits:
            open_stream(open_prepared(folder), split, "repeat")


def test_auto_follows_the_size_of_the_rows(
    tables: PreparedDataset, parts: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen_feed("auto", 1, tables) == chosen_feed("auto", 1, parts) == "resident"
    assert chosen_feed("auto", 2, tables) == chosen_feed("stream", 1, tables) == "stream"
    monkeypatch.setattr("harness.feeds.RESIDENT_BYTES", 10_000)
    assert chosen_feed("auto", 1, tables) == chosen_feed("auto", 1, parts) == "stream"
    assert chosen_feed("resident", 1, tables) == chosen_feed("resident", 1, parts) == "resident"


@pytest.mark.parametrize(
    ("name", "rows", "fields", "expected"),
    [
        ("criteo", 36_672_493, 39, "stream"),
        ("avazu", 32_343_173, 23, "stream"),
        ("ml-1m-ctr", 800_167, 25, "resident"),
    ],
)
def test_large_tables_stream_by_default(
    tables: PreparedDataset, name: str, rows: int, fields: int, expected: str
) -> None:
    field = FieldSchema(name="C", kind="category", size=2, role="context")
    schema = tables.schema.model_copy(
        update={
            "name": name,
            "fields": tuple(field.model_copy(update={"name": f"C{number}"}) for number in range(fields)),
            "splits": {"time_train": SplitSchema(rows=rows, search=True)},
        }
    )
    assert chosen_feed("auto", 1, PreparedDataset(tables.folder, schema)) == expected


def test_a_log_without_a_field_named_item_id_streams(tmp_path: Path) -> None:
    log = write_click_log(tmp_path / "log")
    for split in log.schema.splits:
        expected = open_rows(log, split, "repeat")
        for found in (Feed("stream").open(log, split, "repeat"), Feed().open(in_parts(log), split, "repeat")):
            assert sorted(as_rows(found.batches(64, shuffle_seed=2))) == sorted(as_rows(expected.batches(64)))
            assert torch.equal(found.distinct_items(), expected.distinct_items())
            assert {name: c.tolist() for name, c in found.items.columns.items()} == {"C3": list(range(ITEMS))}


@pytest.fixture
def own_parts(tmp_path: Path) -> PreparedDataset:
    """A dataset in parts that a test may change."""
    return in_parts(write_small_interactions(tmp_path / "small"))


ANEW = r"was prepared anew while it was in use.*; run the command again$"


def test_parts_that_were_prepared_anew_are_not_read(own_parts: PreparedDataset) -> None:
    stream = open_stream(own_parts, "base", "repeat")
    quarter = stream.item_quarters(0)[1]
    list(stream.batches(64))
    prepare_anew(own_parts)
    for feed in (Feed("stream"), Feed()):
        with pytest.raises(DataError, match=ANEW):
            feed.open(own_parts, "base", "repeat")
    for rows in (stream, quarter):
        with pytest.raises(DataError, match=ANEW):
            next(rows.batches(64))
    with pytest.raises(DataError, match=ANEW):
        stream.item_quarters(0)
    assert not list(own_parts.folder.rglob(f"{own_parts.hash[:16]}*"))


def test_parts_that_are_prepared_anew_while_they_are_read_end_in_an_error(own_parts: PreparedDataset) -> None:
    batches = open_stream(own_parts, "base", "repeat").batches(64, shuffle_seed=1)
    next(batches)
    prepare_anew(own_parts)
    with pytest.raises(DataError, match=ANEW):
        list(batches)


def test_parts_that_are_prepared_anew_while_they_are_decoded_are_not_kept(
    own_parts: PreparedDataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*arguments: Any) -> NDArray[np.int32]:
        if not new:
            new.append(prepare_anew(own_parts))
        return read_groups(*arguments)

    new: list[PreparedDataset] = []
    monkeypatch.setattr("harness.resident_parts.read_groups", read)
    with pytest.raises(DataError, match=ANEW):
        Feed().open(own_parts, "base", "repeat")
    assert new and not list(own_parts.folder.rglob(f"{own_parts.hash[:16]}*"))


@pytest.mark.parametrize("opened", [False, True])
def test_a_streamed_table_that_was_prepared_anew_is_not_read(tmp_path: Path, opened: bool) -> None:
    tables = write_small_interactions(tmp_path / "small")
    stream = Feed("stream").open(tables, "base", "repeat") if opened else None
    prepare_anew(tables)
    with pytest.raises(DataError, match=ANEW):
        Feed("stream").open(tables, "base", "repeat")
    if stream is not None:
        with pytest.raises(DataError, match=ANEW):
            list(stream.batches(64))
    assert not list(tables.folder.rglob(f"{tables.hash[:16]}*"))


def test_a_stream_is_a_row_source(parts: PreparedDataset) -> None:
    source: RowSource = open_stream(parts, "base", "repeat")
    assert isinstance(source, StreamedRows)
