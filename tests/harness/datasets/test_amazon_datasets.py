from pathlib import Path

import pytest

from harness.datasets import amazon, catalog
from harness.datasets.item_text import item_attributes
from harness.datasets.raw import RawFile
from harness.datasets.writing import Contents, read_table
from harness.errors import DataError
from harness.feed import open_sequences
from tests.harness.datasets.raw_copies import copy_files, replace_line

USER_SPLIT = tuple(amazon.USER_SPLIT_FILES.values())
SPLITS = ("train", "validation", "test")
SIZES = {
    "amazon-beauty": (17_890, 2_236, 2_237),
    "amazon-sports": (28_478, 3_559, 3_561),
    "amazon-toys": (15_529, 1_941, 1_942),
}


HASHES = {
    "amazon-beauty": "cfd5b4f14ea9",
    "amazon-sports": "710f8b10b6e4",
    "amazon-toys": "7c7e143998f1",
    "amazon-beauty-leave-one-out": "6ee46d86dfa1",
    "amazon-sports-leave-one-out": "3b6fb73942ed",
    "amazon-toys-leave-one-out": "e23def0e65d5",
}
"""Those of the committed results."""


def parse_user_split(train: str, validation: str = "1 2\n", test: str = "2 1\n") -> Contents:
    texts = dict(zip(USER_SPLIT, (train, validation, test), strict=True))
    files = {name: RawFile(name, text.encode()) for name, text in texts.items()}
    return amazon.parse_user_split(files, items=20)


def parse_leave_one_out(text: str) -> Contents:
    return amazon.parse_leave_one_out({"sequences.txt": RawFile("sequences.txt", text.encode())}, items=20)


def test_a_line_of_the_user_split_is_a_history_and_its_target() -> None:
    contents = parse_user_split("5 6 7\n1 2 3 4 5 6 7 8 9 10 11\n")
    train = contents.tables["train"]
    assert train["history"].tolist() == [[5, 6, 0, 0, 0, 0, 0, 0, 0, 0], list(range(1, 11))]
    assert train["length"].tolist() == [2, 10]
    assert train["target"].tolist() == [7, 11]
    assert (contents.users, contents.items, contents.facts["interactions"]) == (4, 20, 18)


def test_leave_one_out_takes_three_targets_a_user_from_the_end() -> None:
    contents = parse_leave_one_out("1 3 1 4 5\n2 " + " ".join(map(str, range(1, 16))) + "\n")
    expected = {
        "train": ([3], 1, [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12][1:], 13),
        "validation": ([3, 1], 4, [4, 5, 6, 7, 8, 9, 10, 11, 12, 13], 14),
        "test": ([3, 1, 4], 5, [5, 6, 7, 8, 9, 10, 11, 12, 13, 14], 15),
    }
    for split, (short, short_target, long, long_target) in expected.items():
        table = contents.tables[split]
        assert table["history"].tolist() == [short + [0] * (10 - len(short)), long]
        assert table["target"].tolist() == [short_target, long_target]
        assert table["length"].tolist() == [len(short), 10]
    assert contents.facts == {"interactions": 19, "items_that_occur": 15}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2\n\n", r"train_data\.txt: line 2: empty, item ids separated by spaces expected"),
        ("1 2\n3 x\n", r"train_data\.txt: line 2: 'x', an integer expected"),
        ("1 -2\n", r"train_data\.txt: line 1: '-2', an integer expected"),
        ("1 2.0\n", r"train_data\.txt: line 1: '2\.0', an integer expected"),
        ("1 0\n", r"train_data\.txt: line 1: item 0, 1 to 20 expected"),
        ("1 2\n1 21\n", r"train_data\.txt: line 2: item 21, 1 to 20 expected"),
        ("1\n", r"train_data\.txt: line 1: 1 items, 2 to 11 expected"),
        (" ".join(map(str, range(1, 13))) + "\n", r"train_data\.txt: line 1: 12 items, 2 to 11 expected"),
        (f"1 {'7' * 5000}\n", r"train_data\.txt: line 1: '7{39}, an integer expected, of 18 digits at most"),
        ("1 2\u00e9\n", r"train_data\.txt: line 1: '2é', an integer expected"),
    ],
)
def test_a_bad_line_of_the_user_split_is_named(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        parse_user_split(text)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3 4 5\n1 2 3 4 5\n", r"sequences\.txt: line 2: user 1 again; one line a user expected"),
        ("1 2 3 4\n", r"sequences\.txt: line 1: 3 items after the user, at least 4 expected"),
        ("1 2 3 4 0\n", r"sequences\.txt: line 1: item 0, 1 to 20 expected"),
    ],
)
def test_a_bad_sequence_is_named(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_leave_one_out(text)


@pytest.mark.parametrize(("name", "sizes"), SIZES.items())
def test_the_user_split_has_the_papers_sizes(
    name: str, sizes: tuple[int, int, int], raw_data: Path, tmp_path: Path
) -> None:
    prepared = catalog.prepare(name, tmp_path, raw_data)
    assert tuple(split.rows for split in prepared.schema.splits.values()) == sizes
    assert [split.search for split in prepared.schema.splits.values()] == [True, True, False]
    assert prepared.schema.users == sum(sizes)
    table = read_table(prepared.folder / "test.parquet")
    lines = (raw_data / catalog.find(name).folder / "user_split/test_data.txt").read_text().splitlines()
    for row in (0, 7, len(lines) - 1):
        *history, target = map(int, lines[row].split())
        assert table["history"][row].tolist() == history + [0] * (10 - len(history))
        assert (table["length"][row], table["target"][row]) == (len(history), target)


@pytest.mark.parametrize("name", HASHES)
def test_item_text_goes_along_and_no_hash_depends_on_it(
    name: str, raw_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIFFBENCH_DATA", raising=False)
    prepared = catalog.prepare(name, tmp_path, raw_data)
    assert prepared.hash[:12] == HASHES[name]
    kept, folder = prepared.folder / "raw/item_text.csv", catalog.find(name).folder
    assert kept.read_bytes() == (raw_data / folder / "item_text.csv").read_bytes()
    attribute_IA = item_attributes(prepared).value
    assert len(attribute_IA) == prepared.schema.items
    assert catalog.verify(name, tmp_path) == []


@pytest.mark.parametrize("name", ["amazon-beauty", "amazon-beauty-leave-one-out", "amazon-beauty-history-20"])
def test_item_text_is_named_where_raw_files_are_missing(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no raw files; put .*item_text\.csv.* into "):
        catalog.prepare(name, tmp_path, tmp_path)


@pytest.mark.parametrize("name", SIZES)
def test_no_one_takes_an_item_of_the_history_again(name: str, raw_data: Path, tmp_path: Path) -> None:
    """So ranking the items of the history last costs no hit."""
    prepared = catalog.prepare(name, tmp_path, raw_data)
    for split in SPLITS:
        table = read_table(prepared.folder / f"{split}.parquet")
        assert not (table["history"] == table["target"][:, None]).any()


@pytest.mark.parametrize(
    ("name", "users", "interactions"),
    [
        ("amazon-beauty-leave-one-out", 22_363, 198_502),
        ("amazon-sports-leave-one-out", 35_598, 296_337),
        ("amazon-toys-leave-one-out", 19_412, 167_597),
    ],
)
def test_leave_one_out_has_every_user_in_every_split(
    name: str, users: int, interactions: int, raw_data: Path, tmp_path: Path
) -> None:
    prepared = catalog.prepare(name, tmp_path, raw_data)
    assert [split.rows for split in prepared.schema.splits.values()] == [users] * 3
    assert all(open_sequences(prepared, split, "repeat").tells_users for split in SPLITS)
    assert prepared.schema.facts["interactions"] == interactions


def test_an_altered_file_is_found_by_lines_then_by_checksum(raw_data: Path, tmp_path: Path) -> None:
    raw = copy_files(raw_data / "amazon-2014/Beauty", tmp_path / "Beauty", USER_SPLIT)
    replace_line(raw / USER_SPLIT[0], 2, "1 2 3")
    with pytest.raises(DataError, match=r"train_data\.txt: sha256 .*8178d836.* expected; .*altered or reordered"):
        catalog.prepare("amazon-beauty", tmp_path / "data", raw)
    replace_line(raw / USER_SPLIT[0], 2, None)
    with pytest.raises(DataError, match=r"train_data\.txt: 17,889 lines, 17,890 expected"):
        catalog.prepare("amazon-beauty", tmp_path / "data", raw)
    (raw / USER_SPLIT[2]).unlink()
    with pytest.raises(DataError, match=r"test_data\.txt: missing; .* belong together"):
        catalog.prepare("amazon-beauty", tmp_path / "data", raw)
    assert not (tmp_path / "data/prepared/amazon-beauty").exists()
