from pathlib import Path

import numpy as np

from harness.datasets.synthetic import write_small_interactions, write_small_sequences
from harness.datasets.writing import read_table


def test_the_same_seed_gives_the_same_dataset_and_another_another(tmp_path: Path) -> None:
    first, again, other = (write_small_interactions(tmp_path / f"{n}", seed) for n, seed in enumerate((0, 0, 1)))
    assert first.hash == again.hash != other.hash


def test_every_split_of_interactions_has_rows_of_both_labels(tmp_path: Path) -> None:
    for seed in range(5):
        dataset = write_small_interactions(tmp_path / str(seed), seed)
        rows = read_table(dataset.folder / "rows.parquet")
        for name, split in dataset.schema.splits.items():
            label = rows["label"][rows[split.column] == split.code]
            assert set(label) == {0.0, 1.0}, name


def test_side_information_predicts_the_labels_of_new_items(tmp_path: Path) -> None:
    dataset = write_small_interactions(tmp_path / "small")
    rows, users, items = (read_table(dataset.folder / f"{name}.parquet") for name in ("rows", "users", "items"))
    taste = users["age"] * 2 + users["gender"]
    agree = taste[rows["user_id"]] == items["genres"][rows["item_id"], 0] - 1
    test = rows["split"] == 4
    assert rows["label"][test & agree].mean() > rows["label"][test & ~agree].mean() + 0.4


def test_the_successor_of_the_last_item_is_the_target(tmp_path: Path) -> None:
    dataset = write_small_sequences(tmp_path / "small", noise=0.0)
    successor: dict[int, int] = {}
    for split in ("train", "validation", "test"):
        table = read_table(dataset.folder / f"{split}.parquet")
        last = table["history"][np.arange(len(table["length"])), table["length"] - 1]
        assert (last > 0).all()
        for item, target in zip(last.tolist(), table["target"].tolist(), strict=True):
            assert successor.setdefault(item, target) == target
    assert len(set(successor.values())) == len(successor)
