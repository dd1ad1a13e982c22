import numpy as np
import pytest

from harness.datasets.large.packing import parts_for
from harness.datasets.large.row_numbers import SHUFFLE, SPLIT, hash_rows, slices, tenths
from harness.datasets.large.selection import count_below, select


@pytest.mark.parametrize("high", [0, 1, 40, 10_000, 10**17])
def test_the_selected_value_is_the_sorted_one(high: int) -> None:
    random = np.random.default_rng(high % 1000)
    parts = [{"time": random.integers(0, high + 1, size)} for size in (50, 0, 7, 200)]
    ordered = np.sort(np.concatenate([part["time"] for part in parts]))

    def count(edges: np.ndarray) -> np.ndarray:
        return np.sum([count_below(edges, "time", None, part) for part in parts], axis=0)

    for place in (0, 1, 100, 255, 256):
        value, below = select(count, place, int(ordered[0]), int(ordered[-1]))
        assert value == ordered[place] and below == int((ordered < value).sum())


def test_rows_of_one_time_are_counted_alone() -> None:
    rows = {"time": np.array([1, 2, 2, 3, 2]), "row": np.array([9, 4, 6, 1, 8])}
    assert count_below(np.array([4, 5, 8, 9]), "row", 2, rows).tolist() == [0, 1, 2, 3]


def test_row_hashes_are_distinct_and_even() -> None:
    row_R = np.arange(100_000)
    for key in (SHUFFLE, SPLIT):
        assert len(np.unique(hash_rows(row_R, key))) == len(row_R)
    share = np.bincount(slices(hash_rows(row_R, SHUFFLE), np.full(len(row_R), 7)), minlength=7) / len(row_R)
    assert np.abs(share - 1 / 7).max() < 0.005
    assert np.abs(np.bincount(tenths(row_R)) / len(row_R) - 0.1).max() < 0.005
    correlation = np.corrcoef(np.argsort(hash_rows(row_R, SHUFFLE)), row_R)[0, 1]
    assert abs(correlation) < 0.02, "the shuffle forgets the file's order"


def test_the_two_hashes_are_independent() -> None:
    row_R = np.arange(100_000)
    table = np.zeros((10, 10))
    np.add.at(table, (tenths(row_R), slices(hash_rows(row_R, SHUFFLE), np.full(len(row_R), 10))), 1)
    assert ((table - 1000) ** 2 / 1000).sum() < 150, "chi square of 81 degrees of freedom"


def test_slices_follow_the_order_of_the_hashes() -> None:
    hash_R = np.sort(hash_rows(np.arange(1000), SHUFFLE))
    slice_R = slices(hash_R, np.full(1000, 9))
    assert (np.diff(slice_R) >= 0).all() and set(slice_R.tolist()) == set(range(9))


def test_a_file_has_room_for_chance() -> None:
    assert parts_for(0, 1 << 20) == 0 and parts_for(1, 1 << 20) == 1
    assert parts_for(1 << 20, 1 << 20) == 2
    hash_R = hash_rows(np.arange(300_000), SHUFFLE)
    parts = parts_for(300_000, 10_000)
    assert np.bincount(slices(hash_R, np.full(len(hash_R), parts))).max() <= 10_000
