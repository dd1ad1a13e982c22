from pathlib import Path

import numpy as np
import pytest
import torch

from harness.datasets.prepared import FieldSchema, PreparedDataset
from harness.datasets.synthetic import write_small_interactions
from harness.datasets.writing import read_table, write_table
from harness.errors import DataError, InputError, TestDataError
from harness.feed import ResidentSequences, open_rows, open_sequences
from tests.harness.batches import joined
from tests.harness.click_log import ITEMS, write_click_log
from tests.harness.leave_one_out import USERS, leave_one_out_contents, random_sequences, with_rows_reversed, written
from trainables.base import SequenceBatch


def test_a_split_holds_the_rows_and_fields_of_the_parquet_files(interactions: PreparedDataset) -> None:
    rows, users, items = (read_table(interactions.folder / f"{name}.parquet") for name in ("rows", "users", "items"))
    for split, schema in interactions.schema.splits.items():
        source = open_rows(interactions, split, "repeat")
        chosen = rows[schema.column] == schema.code
        found = joined(source.batches(100))
        assert len(source) == schema.rows == chosen.sum()
        assert list(found) == [*(field.name for field in interactions.fields), "label"]
        for name in ("user_id", "item_id", "timestamp", "label"):
            assert found[name].tolist() == rows[name][chosen].tolist()
        for name, column in users.items():
            assert found[name].tolist() == column[rows["user_id"][chosen]].tolist()
        for name, column in items.items():
            assert found[name].tolist() == column[rows["item_id"][chosen]].tolist()
        assert source.distinct_items().tolist() == sorted(set(rows["item_id"][chosen].tolist()))


def test_types_and_shapes(interactions: PreparedDataset) -> None:
    batch = next(open_rows(interactions, "base", "repeat").batches(7))
    assert len(batch) == 7
    for field in interactions.fields:
        column = batch.columns[field.name]
        assert column.dtype == (torch.float32 if field.kind == "number" else torch.int32)
        assert column.shape == ((7, field.length) if field.kind == "sequence" else (7,))
    assert batch.label_B.dtype == torch.float32


def test_batches_cover_all_rows_once_in_an_order_that_depends_on_the_seed_alone(interactions: PreparedDataset) -> None:
    source = open_rows(interactions, "base", "repeat")

    def order(seed: int | None, batch_size: int = 64) -> list[tuple[int, int, float]]:
        batches = list(source.batches(batch_size, shuffle_seed=seed))
        assert [len(batch) for batch in batches[:-1]] == [batch_size] * (len(batches) - 1)
        found = joined(batches)
        return list(zip(*(found[name].tolist() for name in ("user_id", "item_id", "timestamp")), strict=True))

    torch.manual_seed(1)
    first = order(3)
    torch.manual_seed(2)
    assert order(3) == first == order(3, batch_size=1000)
    assert order(4) != first != order(None)
    assert sorted(order(4)) == sorted(first) == sorted(order(None))


def test_shuffling_leaves_the_global_generators_alone(
    interactions: PreparedDataset, sequences: PreparedDataset
) -> None:
    before, before_numpy = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    list(open_rows(interactions, "base", "repeat").batches(50, shuffle_seed=1))
    list(open_sequences(sequences, "train", "repeat").batches(50, shuffle_seed=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert np.array_equal(np.random.get_state()[1], before_numpy)  # type: ignore[index]


def test_the_item_table_has_the_columns_with_an_items_role(interactions: PreparedDataset) -> None:
    items = read_table(interactions.folder / "items.parquet")
    table = open_rows(interactions, "warm_a", "repeat").items
    assert set(table.columns) == {"item_id", "year", "title", "genres", "count"}
    for name, column in items.items():
        assert table.columns[name].tolist() == column.tolist()
    picked = table.select(torch.tensor([5, 0, 5]))
    assert picked["item_id"].tolist() == [5, 0, 5]
    assert picked["genres"].tolist() == items["genres"][[5, 0, 5]].tolist()


def test_items_are_found_by_their_fields_role(tmp_path: Path) -> None:
    log = write_click_log(tmp_path / "log")
    source = open_rows(log, "time_train", "repeat")
    found = joined(source.batches(64))
    assert source.distinct_items().tolist() == sorted(set(found["C3"].tolist()))
    assert {name: column.tolist() for name, column in source.items.columns.items()} == {"C3": list(range(ITEMS))}
    fields = tuple(field.model_copy(update={"role": "context"}) for field in log.schema.fields)
    without = PreparedDataset(log.folder, log.schema.model_copy(update={"fields": fields}))
    with pytest.raises(DataError, match="fields C1, C3, C2: none has the role item_id; give it to one"):
        open_rows(without, "time_train", "repeat")


@pytest.mark.parametrize("order", [("user_id", "item_id", "C2"), ("C2", "item_id", "user_id"), ("item_id", "user_id")])
def test_users_and_items_are_found_wherever_their_fields_stand(tmp_path: Path, order: tuple[str, ...]) -> None:
    """Neither by their names nor by their places: the ids are of other names here."""
    dataset = write_small_interactions(tmp_path / "small")
    renamed = {"user_id": "uid", "item_id": "thing"}
    rows = read_table(dataset.folder / "rows.parquet")
    rows["C2"] = rows["item_id"] % 3
    by_name = {field.name: field for field in dataset.schema.fields} | {
        "C2": FieldSchema(name="C2", kind="category", size=3, role="context")
    }
    others = [name for name in by_name if name not in ("user_id", "item_id", "C2")]
    fields = [by_name[name].model_copy(update={"name": renamed.get(name, name)}) for name in (*order, *others)]
    write_table(dataset.folder / "rows.parquet", {renamed.get(name, name): values for name, values in rows.items()})
    changed = PreparedDataset(dataset.folder, dataset.schema.model_copy(update={"fields": tuple(fields)}))
    source = open_rows(changed, "base", "repeat")
    found = joined(source.batches(100))
    users, items = (read_table(dataset.folder / f"{name}.parquet") for name in ("users", "items"))
    assert found["gender"].tolist() == users["gender"][found["uid"]].tolist()
    assert found["title"].tolist() == items["title"][found["thing"]].tolist()
    assert source.distinct_items().tolist() == sorted(set(found["thing"].tolist()))


def test_counts_can_be_taken_from_some_splits_alone(interactions: PreparedDataset) -> None:
    rows = read_table(interactions.folder / "rows.parquet")
    source = open_rows(interactions, "test", "repeat", count_splits=("base", "warm_a"))
    largest = np.bincount(rows["item_id"]).max()
    seen = (rows["split"] == 0) | (rows["split"] == 1)
    expected = np.bincount(rows["item_id"][seen], minlength=interactions.schema.items) / largest
    assert source.items.columns["count"].numpy() == pytest.approx(expected)
    found = joined(source.batches(64))
    assert found["count"] == pytest.approx(expected[found["item_id"]])
    assert open_rows(interactions, "test", "repeat", count_splits=()).items.columns["count"].abs().sum() == 0
    every = tuple(interactions.schema.splits)[:5]
    whole = open_rows(interactions, "test", "repeat", count_splits=every).items.columns["count"].numpy()
    prepared = open_rows(interactions, "test", "repeat").items.columns["count"].numpy()
    assert np.abs(whole - prepared).max() > 0, "rows in no split count only in the prepared column"
    kept = [
        item for item in range(interactions.schema.items) if not (rows["split"][rows["item_id"] == item] == -1).any()
    ]
    assert whole[kept] == pytest.approx(prepared[kept])


def test_a_row_in_two_splits_counts_once(interactions: PreparedDataset) -> None:
    base = open_rows(interactions, "base", "repeat", count_splits=("base",)).items.columns["count"]
    both = open_rows(interactions, "base", "repeat", count_splits=("base", "validation_base")).items.columns["count"]
    assert torch.equal(base, both)


@pytest.mark.parametrize("split", ["base", "warm_a", "warm_b", "warm_c", "test"])
def test_a_search_cannot_open_the_rows_of_the_repeats(interactions: PreparedDataset, split: str) -> None:
    with pytest.raises(TestDataError, match=f"a search may not read '{split}'"):
        open_rows(interactions, split, "search")
    with pytest.raises(TestDataError, match=f"a search may not read '{split}'"):
        open_rows(interactions, "validation_base", "search", count_splits=(split,))
    assert len(open_rows(interactions, f"validation_{split}", "search")) > 0


def test_a_search_reads_train_and_validation_sequences_only(sequences: PreparedDataset) -> None:
    assert len(open_sequences(sequences, "train", "search")) == 400
    assert len(open_sequences(sequences, "validation", "search")) == 50
    with pytest.raises(TestDataError, match="a search may not read 'test'"):
        open_sequences(sequences, "test", "search")


def test_unknown_splits_and_the_wrong_kind_are_one_line(
    interactions: PreparedDataset, sequences: PreparedDataset
) -> None:
    with pytest.raises(InputError, match=r"interactions: no split 'warm_d'; did you mean 'warm_"):
        open_rows(interactions, "warm_d", "search")
    with pytest.raises(InputError, match="sequences: holds sequences, interactions are needed"):
        open_rows(sequences, "train", "search")
    with pytest.raises(InputError, match="interactions: holds interactions, sequences are needed"):
        open_sequences(interactions, "base", "search")


def test_sequences_are_those_of_the_parquet_file(sequences: PreparedDataset) -> None:
    table = read_table(sequences.folder / "train.parquet")
    source = open_sequences(sequences, "train", "search")
    batches = list(source.batches(64))
    assert torch.cat([batch.history_BL for batch in batches]).tolist() == table["history"].tolist()
    assert torch.cat([batch.length_B for batch in batches]).tolist() == table["length"].tolist()
    assert torch.cat([batch.target_B for batch in batches]).tolist() == table["target"].tolist()
    shuffled = list(source.batches(64, shuffle_seed=1))
    again = list(source.batches(64, shuffle_seed=1))
    assert all(torch.equal(a.history_BL, b.history_BL) for a, b in zip(shuffled, again, strict=True))
    examples = sorted(
        (*history, target)
        for batch in shuffled
        for history, target in zip(batch.history_BL.tolist(), batch.target_B.tolist(), strict=True)
    )
    stored = zip(table["history"].tolist(), table["target"].tolist(), strict=True)
    assert examples == sorted((*history, target) for history, target in stored)


def test_prefixes_have_every_item_but_the_first_as_a_target(sequences: PreparedDataset) -> None:
    source = open_sequences(sequences, "train", "search")
    stored = next(source.batches(1000))
    found = next(source.prefixes().batches(100_000))
    expected = []
    for history, length, target in zip(stored.history_BL, stored.length_B, stored.target_B, strict=True):
        items = [*history[:length].tolist(), int(target)]
        padding = [0] * (len(history) + 1 - len(items))
        expected += [([*items[:n], *[0] * (length - n), *padding], n, items[n]) for n in range(1, len(items))]
    rows = zip(found.history_BL.tolist(), found.length_B.tolist(), found.target_B.tolist(), strict=True)
    assert list(rows) == expected
    assert (stored.length_B == stored.history_BL.shape[1]).any(), "some histories are full"
    assert [x.dtype for x in (found.history_BL, found.length_B, found.target_B)] == [torch.int32] * 3
    assert next(source.batches(1000)).history_BL.equal(stored.history_BL), "the stored examples stay as they are"


def test_prefixes_of_a_full_history_and_of_one_item() -> None:
    history, length, target = ([[7, 8, 9], [4, 0, 0]], [3, 1], [5, 6])
    source = ResidentSequences(*(np.array(column, dtype=np.int32) for column in (history, length, target)))
    found = next(source.prefixes().batches(10))
    assert found.history_BL.tolist() == [[7, 0, 0], [7, 8, 0], [7, 8, 9], [4, 0, 0]]
    assert found.length_B.tolist() == [1, 2, 3, 1]
    assert found.target_B.tolist() == [8, 9, 5, 6]


def test_leave_one_out_tells_whose_each_history_is(tmp_path: Path) -> None:
    dataset, sequences = written(leave_one_out_contents(), tmp_path / "small"), random_sequences()
    for split, back in (("train", 3), ("validation", 2), ("test", 1)):
        for seed in (None, 1):
            batches = open_sequences(dataset, split, "repeat").batches(7, shuffle_seed=seed)
            found = [(user, row) for batch in batches for user, row in zip(_users(batch), _items(batch), strict=True)]
            assert sorted(user for user, _ in found) == list(range(USERS))
            assert all(row == sequences[user][: len(sequences[user]) - back + 1][-7:] for user, row in found)
            assert [user for user, _ in found] == list(range(USERS)) or seed == 1


def test_prefixes_are_of_the_user_of_their_history(tmp_path: Path) -> None:
    source = open_sequences(written(leave_one_out_contents(), tmp_path / "small"), "train", "search")
    stored = next(source.batches(1000))
    found = next(source.prefixes().batches(100_000))
    assert _users(found) == [user for user, length in enumerate(stored.length_B.tolist()) for _ in range(length)]
    assert found.user_B is not None and found.user_B.dtype == torch.int32


def test_users_are_not_told_where_they_are_split_or_unwanted(sequences: PreparedDataset, tmp_path: Path) -> None:
    split = open_sequences(sequences, "train", "search")
    told = open_sequences(written(leave_one_out_contents(), tmp_path / "small"), "train", "search")
    assert told.tells_users and not split.tells_users
    for source in (split, split.prefixes(), told.without_users(), told.without_users().prefixes()):
        assert next(source.batches(9)).user_B is None
    assert next(told.without_users().batches(9)).history_BL.equal(next(told.batches(9)).history_BL)


@pytest.mark.parametrize(("changed", "searched"), [("train", False), ("validation", False), ("test", True)])
def test_rows_in_another_order_tell_no_user(changed: str, searched: bool, tmp_path: Path) -> None:
    """A search looks at what it may read alone, so that it does not see the order of the test rows."""
    dataset = written(with_rows_reversed(leave_one_out_contents(), changed), tmp_path / "small")
    for split in ("train", "validation"):
        assert open_sequences(dataset, split, "search").tells_users == searched
        assert not open_sequences(dataset, split, "repeat").tells_users


def _users(batch: SequenceBatch) -> list[int]:
    assert batch.user_B is not None
    return batch.user_B.tolist()


def _items(batch: SequenceBatch) -> list[list[int]]:
    """Each history with its target at the end."""
    rows = zip(batch.history_BL.tolist(), batch.length_B.tolist(), batch.target_B.tolist(), strict=True)
    return [[*history[:length], target] for history, length, target in rows]


def test_writing_into_a_batch_or_an_item_table_changes_nothing_on_disk(interactions: PreparedDataset) -> None:
    source = open_rows(interactions, "base", "repeat")
    source.items.columns["count"].fill_(7.0)
    next(source.batches(10)).columns["title"].fill_(7)
    fresh = open_rows(interactions, "base", "repeat").items.columns
    items = read_table(interactions.folder / "items.parquet")
    assert fresh["count"].tolist() == items["count"].tolist()
    assert fresh["title"].tolist() == items["title"].tolist()
