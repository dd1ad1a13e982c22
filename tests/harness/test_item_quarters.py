from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from harness.datasets.prepared import PreparedDataset
from harness.datasets.synthetic import write_small_interactions
from harness.feed import ResidentRows, open_rows
from trainables.base import CtrBatch


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    folder: Path = tmp_path_factory.mktemp("prepared")
    return write_small_interactions(folder / "small")


def all_rows(rows: ResidentRows) -> CtrBatch:
    return next(iter(rows.batches(10**6)))


def test_each_item_s_rows_are_cut_into_four_by_time(dataset: PreparedDataset) -> None:
    rows = open_rows(dataset, "base", "repeat")
    whole = all_rows(rows).columns
    quarters = [all_rows(quarter).columns for quarter in rows.item_quarters(seed=3)]
    for item in rows.distinct_items().tolist():
        time = np.sort(whole["timestamp"][whole["item_id"] == item].numpy(), kind="stable")
        size = len(time) // 4
        for number, quarter in enumerate(quarters):
            found = np.sort(quarter["timestamp"][quarter["item_id"] == item].numpy())
            assert found.tolist() == time[number * size : (number + 1) * size].tolist()


def test_no_row_is_in_two_quarters(dataset: PreparedDataset) -> None:
    rows = open_rows(dataset, "base", "repeat")
    used = np.concatenate([quarter._row_S for quarter in rows.item_quarters(seed=3)])
    assert len(set(used.tolist())) == len(used)
    assert set(used.tolist()) <= set(rows._row_S.tolist())
    counts = torch.bincount(all_rows(rows).columns["item_id"])
    assert len(used) == int((counts // 4 * 4).sum())


def test_one_shuffle_keeps_the_quarters_aligned_by_item(dataset: PreparedDataset) -> None:
    rows = open_rows(dataset, "base", "repeat")
    first, *others = (all_rows(quarter).columns["item_id"] for quarter in rows.item_quarters(seed=3))
    assert all(torch.equal(first, other) for other in others)
    assert not torch.equal(first, first.sort().values)
    assert not torch.equal(first, all_rows(rows.item_quarters(seed=4)[0]).columns["item_id"])
    assert torch.equal(first, all_rows(rows.item_quarters(seed=3)[0]).columns["item_id"])


def test_the_source_itself_stays_as_it_is(dataset: PreparedDataset) -> None:
    rows = open_rows(dataset, "base", "repeat")
    before = rows._row_S.copy()
    rows.item_quarters(seed=3)
    assert rows._row_S.tolist() == before.tolist()


def test_rows_of_one_time_keep_their_stored_order(dataset: PreparedDataset) -> None:
    rows = open_rows(dataset, "base", "repeat")
    rows._names = [name for name in rows._names if name != "timestamp"]
    whole = rows._rows.integers("item_id")[rows._row_S]
    first, second, _, _ = rows.item_quarters(seed=3)
    for item in rows.distinct_items().tolist():
        stored = rows._row_S[whole == item]
        size = len(stored) // 4
        for number, quarter in enumerate((first, second)):
            of_item = quarter._row_S[rows._rows.integers("item_id")[quarter._row_S] == item]
            assert sorted(of_item.tolist()) == stored[number * size : (number + 1) * size].tolist()


def test_a_split_whose_items_are_too_rare_has_empty_quarters(dataset: PreparedDataset) -> None:
    rows = open_rows(dataset, "base", "repeat").of(open_rows(dataset, "base", "repeat")._row_S[:1])
    assert [len(quarter) for quarter in rows.item_quarters(seed=0)] == [0, 0, 0, 0]
