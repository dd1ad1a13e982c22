"""Categories of Amazon 2014 as one training set, on small files and on the real ones."""

from pathlib import Path

import numpy as np
import pytest

from harness.datasets import amazon, catalog
from harness.datasets.amazon_together import Part, parse_together
from harness.datasets.item_descriptions import ItemDescription
from harness.datasets.item_text import _item_rows, _sentence, item_attributes, item_domains
from harness.datasets.prepared import PreparedDataset
from harness.datasets.raw import ItemTextFile, RawFile, RawFiles
from harness.datasets.writing import read_table
from harness.errors import DataError
from tests.harness.datasets.raw_copies import copy_files, replace_line

HEADER = "preferdiff_id,s3rec_id,asin,title,attribute_names,attribute_ids,idgenrec_keywords\n"
TRAIN, VALIDATION, TEST = amazon.USER_SPLIT_FILES.values()
SMALL = {
    f"Soap/{TRAIN}": "1 2 3\n2 3\n",
    f"Soap/{VALIDATION}": "3 1\n",
    f"Soap/{TEST}": "2 1\n",
    "Soap/item_text.csv": HEADER + '2,9,B2,"Soap, red",Jason|Skin,7 1,soap red\n',
    f"Tents/{TRAIN}": "1 2\n",
    f"Tents/{VALIDATION}": "2 1\n",
    f"Tents/{TEST}": "1 1 2\n",
    "Tents/item_text.csv": HEADER + "1,9,B9,,Jason||Camp,5 1 2,tent\n",
}
TEXT = ItemTextFile("item_text.csv", "preferdiff_id", "")
PARTS = (Part("Soap", 3, TEXT), Part("Tents", 2, TEXT))


def files(**changed: str) -> RawFiles:
    return {name: RawFile(name, text.encode()) for name, text in (SMALL | changed).items()}


def test_items_of_the_second_category_come_after_those_of_the_first() -> None:
    contents = parse_together(files(), parts=PARTS)
    assert (contents.items, contents.users) == (5, 7)
    rows = {
        split: [
            [*history[:length], target]
            for history, length, target in zip(*(table[name].tolist() for name in table), strict=True)
        ]
        for split, table in contents.tables.items()
    }
    assert rows == {
        "train": [[1, 2, 3], [2, 3], [4, 5]],
        "validation": [[3, 1], [5, 4]],
        "test": [[2, 1], [4, 4, 5]],
    }
    assert {split: known.search for split, known in contents.splits.items()} == {
        "train": True,
        "validation": True,
        "test": False,
    }
    assert contents.facts == {"interactions": 16, "items_that_occur": 5}


def test_items_have_the_text_of_their_own_category() -> None:
    assert list(parse_together(files(), parts=PARTS).described_items) == [
        ItemDescription(domain="Soap"),
        ItemDescription("Soap, red", ("Jason", "Skin"), "soap red", "Soap"),
        ItemDescription(domain="Soap"),
        ItemDescription("", ("Jason", "Camp"), "tent", "Tents"),
        ItemDescription(domain="Tents"),
    ]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (f"Tents/{TRAIN}", "1 2\n1 3\n", r"Tents/user_split/train_data\.txt: line 2: item 3, 1 to 2 expected"),
        ("Tents/item_text.csv", HEADER + "3,9,B,,,,\n", r"Tents/item_text\.csv: line 2: preferdiff_id '3', an id of 1"),
    ],
)
def test_a_bad_line_is_named_with_its_category(name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        parse_together(files(**{name: text}), parts=PARTS)


def test_what_is_missing_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DIFFBENCH_DATA", raising=False)
    folder = tmp_path / "raw/amazon-2014"
    with pytest.raises(DataError, match=f"amazon-beauty-sports: no raw files; put Beauty/user_split/.* into {folder}$"):
        catalog.prepare("amazon-beauty-sports", tmp_path)
    (folder / "Beauty").mkdir(parents=True)
    (folder / "Beauty/item_text.csv").write_text(HEADER)
    with pytest.raises(DataError, match=r"Beauty/user_split/train_data\.txt: missing; .* belong together"):
        catalog.prepare("amazon-beauty-sports", tmp_path)


def rows_of(dataset: PreparedDataset, split: str) -> list[list[int]]:
    table = read_table(dataset.folder / f"{split}.parquet")
    return [
        [*history[:length], target]
        for history, length, target in zip(
            *(table[name].tolist() for name in ("history", "length", "target")), strict=True
        )
    ]


def test_beauty_and_sports_together_are_the_rows_and_the_text_of_both(raw_data: Path, tmp_path: Path) -> None:
    names = ("amazon-beauty", "amazon-sports", "amazon-beauty-sports")
    beauty, sports, both = (catalog.prepare(name, tmp_path, raw_data) for name in names)
    assert (both.schema.items, both.schema.users) == (12_101 + 18_357, 22_363 + 35_598)
    for split in both.schema.splits:
        shifted = [[12_101 + item for item in row] for row in rows_of(sports, split)]
        assert rows_of(both, split) == rows_of(beauty, split) + shifted
    for source in ("descriptions", "keywords"):
        of_beauty, of_sports, of_both = (
            [_sentence(row, source) for row in _item_rows(one)[1]] for one in (beauty, sports, both)
        )
        assert of_both == of_beauty + of_sports
        assert sum(map(bool, of_both)) > 30_000
    assert item_domains(both).value.tolist() == [0] * 12_101 + [1] * 18_357
    assert not item_domains(beauty).value.any()
    attribute_IA = item_attributes(both).value
    named = [[name for name in row["attribute_names"].split("|") if name] for row in _item_rows(both)[1]]
    assert np.count_nonzero(attribute_IA, axis=1).tolist() == [len(names) for names in named]
    names_in_order = [name for names in named for name in names]
    numbers = dict(zip(names_in_order, attribute_IA[attribute_IA > 0].tolist(), strict=True))
    assert attribute_IA[attribute_IA > 0].tolist() == [numbers[name] for name in names_in_order], (
        "a name has one number"
    )
    assert sorted(numbers.values()) == list(range(1, len(numbers) + 1))
    assert catalog.verify("amazon-beauty-sports", tmp_path) == []


def test_altered_text_is_refused(raw_data: Path, tmp_path: Path) -> None:
    known = catalog.find("amazon-beauty-sports")
    raw = copy_files(raw_data / known.folder, tmp_path / "given", tuple(known.layouts[0]))
    replace_line(raw / "Sports_and_Outdoors/item_text.csv", 2, "1,1,B,,,,")
    with pytest.raises(DataError, match=r"Sports_and_Outdoors/item_text\.csv: sha256 .*98e9931058.* expected; .*alter"):
        catalog.prepare("amazon-beauty-sports", tmp_path / "data", raw)
    assert not (tmp_path / "data/prepared/amazon-beauty-sports").exists()
