"""The datasets of the task `ctr`: splits, and the formats of MovieLens, Criteo and Avazu.

Legend: R rows.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from harness.datasets import avazu, catalog, criteo, movielens_clicks
from harness.datasets.click_logs import encode_texts, integers, read_log
from harness.datasets.click_split import random_split, time_split
from harness.datasets.prepared import PreparedDataset
from harness.datasets.raw import RawFile
from harness.datasets.writing import read_table
from harness.errors import DataError
from harness.feed import open_rows
from tests.harness.datasets.raw_copies import SMALL_ML_1M


@pytest.fixture(scope="module", params=["criteo-sample", "avazu-sample", "ml-100k-ctr"])
def prepared(
    raw_data: Path, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> PreparedDataset:
    return catalog.prepare(str(request.param), tmp_path_factory.mktemp("data"), raw_data)


def test_time_splits_take_the_latest_rows_last() -> None:
    time_R = np.array([50, 10, 20, 30, 40, 60, 70, 80, 90, 100])
    assert time_split(time_R).tolist() == [0, 0, 0, 0, 0, 0, 0, 0, 1, 2]
    assert time_split(np.zeros(10)).tolist() == [0] * 8 + [1, 2], "equal times keep the file's order"


def test_random_splits_are_always_the_same() -> None:
    split_R = random_split(1000)
    assert np.bincount(split_R).tolist() == [800, 100, 100]
    assert np.array_equal(split_R, random_split(1000)) and not np.array_equal(split_R, np.sort(split_R))


def test_splits_of_real_files_are_whole(prepared: PreparedDataset) -> None:
    rows = read_table(prepared.folder / "rows.parquet")
    total = prepared.schema.facts["rows"]
    for kind in ("time", "random"):
        sizes = [prepared.schema.splits[f"{kind}_{name}"].rows for name in ("train", "validation", "test")]
        assert sum(sizes) == total == len(rows["label"]) and sizes[0] == total * 8 // 10
        assert [prepared.schema.splits[f"{kind}_{name}"].search for name in ("train", "validation", "test")] == [
            True,
            True,
            False,
        ]
    assert catalog.verify(prepared.name, prepared.folder.parent.parent) == []


def test_ids_of_real_files_lie_in_their_vocabularies(prepared: PreparedDataset) -> None:
    batch = next(iter(open_rows(prepared, "random_train", "search").batches(100_000)))
    for field in prepared.fields:
        column = batch.columns[field.name]
        assert int(column.min()) >= 0 and int(column.max()) < field.size, field.name
    assert sum(field.role == "item_id" for field in prepared.fields) == 1


def test_movielens_by_hand() -> None:
    files = {f"{name}": RawFile(name, text.encode("latin-1")) for name, text in SMALL_ML_1M.items()}
    contents = movielens_clicks.parse_1m(files)
    names = [field.name for field in contents.fields]
    assert names[:4] == ["user_id", "item_id", "hour", "weekday"]
    assert not {"timestamp", "count"} & set(names) and {"gender", "year", "title", "genres"} < set(names)
    assert contents.tables["rows"]["label"].tolist() == [1.0, 0.0, 1.0]


def criteo_line(label: str = "1", first: str = "5", category: str = "aa") -> str:
    return "\t".join([label, first, *[""] * 12, category, *["b"] * 25]) + "\n"


def test_criteo_by_hand() -> None:
    text = criteo_line() * 10 + criteo_line("0", "", "") * 10 + criteo_line("0", "-1", "rare")
    contents = criteo.parse({"train.txt": RawFile("train.txt", text.encode())})
    rows = contents.tables["rows"]
    assert rows["label"].tolist() == [1.0] * 10 + [0.0] * 11
    assert rows["C1"].tolist() == [2] * 10 + [1] * 10 + [0], "missing is a value, what is rare is 0"
    assert rows["I1"].tolist() == [2] * 10 + [1] * 10 + [0]
    assert {field.name: field.size for field in contents.fields}["C3"] == 2
    assert contents.items == 2 and contents.users == 3


@pytest.mark.parametrize(
    ("text", "expected"), [("", ""), ("-3", "-3"), ("2", "2"), ("3", "ln²1"), ("8", "ln²4"), ("1000", "ln²47")]
)
def test_criteos_integers(text: str, expected: str) -> None:
    assert criteo.magnitude(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (criteo_line("2"), r"train\.txt: row 1: label '2', 0 or 1 expected"),
        (criteo_line(first="x"), "'x' in one of I1 … I13, an integer expected"),
        ("1\t2\n", r"train\.txt: .*another format"),
    ],
)
def test_criteo_lines_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        criteo.parse({"train.txt": RawFile("train.txt", text.encode())})


def avazu_text(hours: tuple[str, ...], header: str = ",".join(avazu.COLUMNS)) -> bytes:
    rest = ",".join(["a"] * 21)
    return "\n".join(
        [header, *(f"{number},{number % 2},{hour},{rest}" for number, hour in enumerate(hours)), ""]
    ).encode()


def test_avazu_by_hand() -> None:
    # the 21st of October 2014 was a Tuesday
    contents = avazu.parse({"train.csv": RawFile("train.csv", avazu_text(("14102201", "14102100", "14102100")))})
    rows = contents.tables["rows"]
    assert rows["label"].tolist() == [0.0, 1.0, 0.0]
    assert rows["hour"].tolist() == [2, 1, 1] and rows["weekday"].tolist() == [2, 1, 1]
    assert rows["time_split"][0] == 2, "the latest row is tested"
    assert "id" not in rows and next(f for f in contents.fields if f.role == "item_id").name == "C14"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (avazu_text(("14102100",), header="id,click"), r"train\.csv: line 1: not the expected header"),
        (avazu_text(("141021",)), "hour '141021', YYMMDDHH expected"),
    ],
)
def test_avazu_files_that_cannot_be_read(data: bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        avazu.parse({"train.csv": RawFile("train.csv", data)})


def test_rare_texts_share_an_id() -> None:
    log = read_log([RawFile("a", b"x\ny\nx\nz\n"), RawFile("b", b"z\n\n")], ("c",), ";", headers=[False, False])
    assert encode_texts("c", "context", log["c"]).values.tolist() == [2, 3, 2, 4, 4, 1]
    rare = encode_texts("c", "context", log["c"], at_least=2)
    assert rare.values.tolist() == [1, 0, 1, 2, 2, 0] and rare.field.size == 3


@pytest.mark.parametrize("digits", [19, 5000])
def test_a_number_that_is_too_large_is_named(digits: int) -> None:
    column = pa.array(["14102100", "9" * digits]).dictionary_encode()
    with pytest.raises(DataError, match=r"train\.csv: hour '9{19,39}'?, an integer expected$"):
        integers("train.csv", "hour", column)
