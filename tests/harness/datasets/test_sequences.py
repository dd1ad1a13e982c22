from collections import Counter

import numpy as np
import pytest

from harness.datasets.sequences import (
    Interactions,
    by_user,
    collected,
    frequent,
    leave_one_out,
    sequence_contents,
    user_split,
)

ROWS = [("ann", "b", 5), ("bob", "a", 1), ("ann", "a", 3), ("ann", "c", 5), ("cay", "a", 9), ("bob", "c", 1)]


def named(interactions: Interactions) -> list[tuple[int, str, int]]:
    columns = (interactions.user_R.tolist(), interactions.item_R.tolist(), interactions.time_R.tolist())
    return [(user, interactions.item_names[item], time) for user, item, time in zip(*columns, strict=True)]


def random_rows(seed: int, count: int = 300) -> list[tuple[str, str, int]]:
    random = np.random.default_rng(seed)
    columns = (random.integers(0, 20, count), random.integers(0, 30, count), random.integers(0, 50, count))
    return [(f"u{user}", f"i{item}", time) for user, item, time in zip(*(c.tolist() for c in columns), strict=True)]


def test_interactions_are_kept_as_they_come() -> None:
    interactions = collected(iter(ROWS))
    assert named(interactions) == [(0, "b", 5), (1, "a", 1), (0, "a", 3), (0, "c", 5), (2, "a", 9), (1, "c", 1)]
    assert (len(interactions), interactions.users) == (6, 3)


def test_rare_users_and_items_are_counted_before_any_is_left_out() -> None:
    left = frequent(collected(ROWS), users=2, items=2)
    assert named(left) == [(1, "a", 1), (0, "a", 3), (0, "c", 5), (1, "c", 1)]
    assert named(frequent(collected(ROWS), users=3, items=3)) == [
        (0, "a", 3)
    ]  # its user had three, of which one is left


@pytest.mark.parametrize("seed", range(3))
def test_frequent_agrees_with_a_count(seed: int) -> None:
    rows = random_rows(seed)
    users, items = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
    expected = [(item, time) for user, item, time in rows if users[user] >= 14 and items[item] >= 10]
    assert 0 < len(expected) < len(rows)
    assert [row[1:] for row in named(frequent(collected(rows), users=14, items=10))] == expected


def test_sequences_are_in_the_order_of_time_and_equal_times_in_the_files() -> None:
    sequences = by_user(collected(ROWS))
    assert sequences.item_names == ["a", "b", "c"]
    assert sequences.rows == [[1, 2, 3], [1, 3]]  # ann, bob; cay has one item


@pytest.mark.parametrize("seed", range(3))
def test_sequences_agree_with_sorting_each_user(seed: int) -> None:
    rows = random_rows(seed)
    sequences = by_user(collected(rows))
    expected = []
    for user in dict.fromkeys(row[0] for row in rows):
        own = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])
        expected += [[row[1] for row in own]] if len(own) > 1 else []
    assert [[sequences.item_names[item - 1] for item in row] for row in sequences.rows] == expected
    assert sequences.item_names == sorted(sequences.item_names)


def test_no_interactions_give_no_sequences() -> None:
    empty = by_user(collected([("ann", "a", 1)]))
    assert (empty.rows, empty.item_names) == ([], [])


def test_users_are_split_8_1_1_and_histories_cut() -> None:
    sequences = [list(range(user, user + 3 + user % 14)) for user in range(1, 104)]
    examples = user_split(sequences, 10)
    assert {split: len(rows) for split, rows in examples.items()} == {"train": 82, "validation": 10, "test": 11}
    together = [tuple(row) for rows in examples.values() for row in rows]
    assert sorted(together) == sorted(tuple(sequence[-11:]) for sequence in sequences)
    assert user_split(sequences, 10) == examples
    assert [row[0] for row in examples["train"]] != sorted(row[0] for row in examples["train"])


def test_longer_histories_end_as_shorter_ones_do() -> None:
    sequences = [list(range(1, 2 + user)) for user in range(3, 60)]
    for split in (user_split, leave_one_out):
        short, long = split(sequences, 10), split(sequences, 50)
        for name, rows in short.items():
            assert [row[-11:] for row in long[name]] == rows
        assert max(len(row) for row in long["train"]) == 51


def test_leave_one_out_has_the_last_three_items_as_targets() -> None:
    assert leave_one_out([[1, 2, 3, 4, 5]], 2) == {"train": [[1, 2, 3]], "validation": [[2, 3, 4]], "test": [[3, 4, 5]]}


def test_contents_are_padded_to_the_history_length() -> None:
    contents = sequence_contents({"train": [[1, 2, 3]], "test": [[2, 1]]}, items=4, users=2, history_length=3, note="n")
    assert contents.tables["train"]["history"].tolist() == [[1, 2, 0]]
    assert contents.tables["train"]["length"].tolist() == [2]
    assert contents.tables["test"]["target"].tolist() == [1]
    assert (contents.history_length, contents.note) == (3, "n")
    assert contents.facts == {"interactions": 5, "items_that_occur": 3}
    assert [split.search for split in contents.splits.values()] == [True, False]
