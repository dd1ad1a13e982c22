from pathlib import Path

import numpy as np
import pytest

from harness.datasets import amazon, catalog
from harness.datasets.amazon_longer import parse_longer_user_split
from harness.datasets.raw import RawFile
from harness.datasets.writing import Contents, read_table
from harness.errors import DataError

TEXT = "preferdiff_id,s3rec_id\n" + "".join(f"{31 - item},{item}\n" for item in range(1, 31))
LONG = list(range(1, 16))


def own(items: list[int]) -> str:
    return " ".join(str(31 - item) for item in items)


def parsed(train: str, sequences: str, text: str = TEXT) -> Contents:
    splits = dict.fromkeys(amazon.USER_SPLIT_FILES.values(), f"{own([20, 21, 22, 23])}\n")
    texts = {**splits, "user_split/train_data.txt": train, "sequences.txt": sequences, "item_text.csv": text}
    files = {name: RawFile(name, content.encode()) for name, content in texts.items()}
    return parse_longer_user_split(files, items=30, history_length=20)


def test_an_example_is_found_at_the_end_of_its_sequence() -> None:
    sequences = "1 20 21 22 23\n2 20 21 22 23\n3 " + " ".join(map(str, LONG)) + "\n"
    train = parsed(f"{own(LONG[-11:])}\n", sequences).tables["train"]
    assert train["history"].tolist() == [[31 - item for item in LONG[:-1]] + [0] * 6]
    assert (train["length"].tolist(), train["target"].tolist()) == ([14], [16])


def test_sequences_that_end_alike_are_taken_once_each() -> None:
    ends = LONG[-11:]
    lines = [[30, *ends], [29, 28, *ends]]
    sequences = "".join(f"{user} {' '.join(map(str, line))}\n" for user, line in enumerate(lines, start=1))
    sequences += "3 20 21 22 23\n4 20 21 22 23\n"
    train = parsed(f"{own(ends)}\n{own(ends)}\n", sequences).tables["train"]
    assert train["length"].tolist() == [11, 12]
    with pytest.raises(DataError, match=r"train_data\.txt: line 3: the end of no sequence in sequences\.txt"):
        parsed(f"{own(ends)}\n" * 3, sequences)


def test_an_item_that_only_the_longer_history_has_takes_an_id_that_is_left() -> None:
    """Items 1 and 3 of the sequences have no row of their own: 28 and 30 are left."""
    text = "".join(line for line in TEXT.splitlines(keepends=True) if line not in ("30,1\n", "28,3\n"))
    sequences = "1 20 21 22 23\n2 20 21 22 23\n3 " + " ".join(map(str, LONG)) + "\n"
    train = parsed(f"{own(LONG[-11:])}\n", sequences, text).tables["train"]
    assert train["history"][0, :4].tolist() == [28, 29, 30, 27]
    taken = text + "28,31\n30,32\n"
    with pytest.raises(DataError, match=r"item_text\.csv: line 1: 2 items of .* have no preferdiff_id, and only 0 ids"):
        parsed(f"{own(LONG[-11:])}\n", sequences, taken)


def test_a_text_file_without_both_ids_is_refused() -> None:
    with pytest.raises(DataError, match=r"item_text\.csv: line 1: preferdiff_id and s3rec_id of every item expected"):
        parsed(f"{own(LONG[-11:])}\n", "1 20 21 22 23\n", "id\n1\n")


@pytest.mark.parametrize("category", ["beauty", "sports", "toys"])
def test_longer_histories_of_the_real_split_end_as_the_short_ones(
    category: str, raw_data: Path, tmp_path: Path
) -> None:
    short = catalog.prepare(f"amazon-{category}", tmp_path, raw_data)
    long = catalog.prepare(f"amazon-{category}-history-50", tmp_path, raw_data)
    assert long.schema.history_length == 50
    for split in short.schema.splits:
        before, after = (read_table(one.folder / f"{split}.parquet") for one in (short, long))
        assert after["target"].tolist() == before["target"].tolist()
        for row in range(0, len(before["target"]), 97):
            length, full = int(before["length"][row]), int(after["length"][row])
            assert after["history"][row][full - length : full].tolist() == before["history"][row][:length].tolist()
            assert full == length or length == 10
        assert (after["length"] > 10).any()
        real = np.arange(50) < after["length"][:, None]
        assert ((after["history"] > 0) == real).all(), "0 stands for no item"


def test_longer_leave_one_out_cuts_the_same_sequences_later(raw_data: Path, tmp_path: Path) -> None:
    short = catalog.prepare("amazon-beauty-leave-one-out", tmp_path, raw_data)
    long = catalog.prepare("amazon-beauty-leave-one-out-history-20", tmp_path, raw_data)
    before, after = (read_table(one.folder / "test.parquet") for one in (short, long))
    assert after["target"].tolist() == before["target"].tolist()
    assert after["length"].max() == 20
    assert long.schema.facts == short.schema.facts
