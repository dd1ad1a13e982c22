import numpy as np

from harness.datasets.cold_start_split import (
    LEFT_OUT,
    SPLIT_CODES,
    pseudo_new_bound,
    split_rows,
    split_schemas,
    validation_split_rows,
)


def double_loop(items: list[int], times: list[int], hot_above: int, block: int) -> list[int]:
    """The protocol as the paper tells it, one item at a time."""
    codes = [LEFT_OUT] * len(items)
    for item in set(items):
        rows = sorted((row for row in range(len(items)) if items[row] == item), key=lambda row: times[row])
        if len(rows) > hot_above:
            for row in rows:
                codes[row] = SPLIT_CODES["base"]
        elif len(rows) >= 3 * block:
            for position, row in enumerate(rows):
                name = ("warm_a", "warm_b", "warm_c")[position // block] if position < 3 * block else "test"
                codes[row] = SPLIT_CODES[name]
    return codes


def test_a_split_by_hand() -> None:
    # item 0 occurs 5 times (hot, above 4), item 1 4 times (new), item 2 3 times (new, no test row), item 3 twice (out)
    items = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 2, 2, 2, 3, 3])
    times = np.array([9, 4, 9, 3, 9, 2, 9, 1, 9, 5, 5, 5, 0, 0])
    expected = [0, 4, 0, 3, 0, 2, 0, 1, 0, 1, 2, 3, -1, -1]
    assert split_rows(items, times, hot_above=4, block=1).tolist() == expected


def test_the_split_equals_a_double_loop_with_many_equal_times() -> None:
    random = np.random.default_rng(0)
    items = np.concatenate([np.repeat(np.arange(12), [60, 41, 40, 39, 30, 13, 12, 11, 9, 9, 8, 1])])
    items = random.permutation(items)
    times = random.integers(0, 7, len(items))
    assert split_rows(items, times, hot_above=40, block=3).tolist() == double_loop(
        items.tolist(), times.tolist(), 40, 3
    )


def test_the_pseudo_new_items_are_at_least_a_fifth_and_no_more_than_they_must() -> None:
    counts = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19]
    assert pseudo_new_bound(np.repeat(np.arange(10), counts)) == 11
    assert pseudo_new_bound(np.repeat(np.arange(11), [*counts, 20])) == 12  # a fifth of 11 is more than 2
    assert pseudo_new_bound(np.repeat(np.arange(10), [10] * 3 + [20] * 7)) == 10  # equal counts stay together


def test_the_validation_split_is_the_protocol_on_base_rows_alone() -> None:
    random = np.random.default_rng(1)
    items = random.permutation(np.repeat(np.arange(10), [50, 45, 40, 38, 36, 33, 31, 20, 15, 2]))
    times = random.integers(0, 20, len(items))
    split = split_rows(items, times, hot_above=30, block=5)
    validation = validation_split_rows(items, times, split, block=5)
    assert set(items[split != 0]) == {7, 8, 9}
    assert (validation[split != 0] == LEFT_OUT).all()
    base = split == 0
    assert validation[base].tolist() == double_loop(items[base].tolist(), times[base].tolist(), 33, 5)
    assert set(items[validation > 0]) == {5, 6}, "two of the seven hot items, at most 33 rows each"


def test_real_new_items_do_not_change_the_validation_split() -> None:
    items = np.repeat(np.arange(4), [20, 12, 11, 9])
    times = np.arange(len(items))
    split = split_rows(items, times, hot_above=10, block=2)
    with_new = validation_split_rows(items, times, split, block=2)
    hot = items < 3
    without = validation_split_rows(items[hot], times[hot], split[hot], block=2)
    assert with_new[hot].tolist() == without.tolist()


def test_only_validation_splits_are_open_to_a_search() -> None:
    items = np.repeat(np.arange(4), [20, 12, 11, 9])
    split = split_rows(items, np.arange(len(items)), hot_above=10, block=2)
    schemas = split_schemas(split, validation_split_rows(items, np.arange(len(items)), split, block=2))
    assert {name for name, schema in schemas.items() if schema.search} == {
        "validation_base",
        "validation_warm_a",
        "validation_warm_b",
        "validation_warm_c",
        "validation_test",
    }
    assert (schemas["base"].rows, schemas["warm_a"].rows, schemas["test"].rows) == (43, 2, 3)
    assert (schemas["validation_base"].rows, schemas["validation_test"].rows) == (32, 5)
