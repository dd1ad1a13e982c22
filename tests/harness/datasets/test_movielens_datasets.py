import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from harness.datasets import catalog, movielens_1m
from harness.datasets.movielens import split_title
from harness.datasets.movielens_100k import RECBOLE_LAYOUT
from harness.datasets.prepared import PreparedDataset
from harness.datasets.raw import RawFile
from harness.datasets.writing import Contents, read_table
from harness.errors import DataError
from tests.harness.datasets.raw_copies import SMALL_ML_1M, copy_files, grouplens_ml_100k, replace_line, write_files

RECBOLE = tuple(RECBOLE_LAYOUT)


def parse_ml_1m(**changed: str | bytes) -> Contents:
    texts = {name: text.encode("latin-1") for name, text in SMALL_ML_1M.items()}
    texts |= {
        f"{name}.dat": text if isinstance(text, bytes) else text.encode("latin-1") for name, text in changed.items()
    }
    return movielens_1m.parse({name: RawFile(name, data) for name, data in texts.items()})


@pytest.fixture(scope="session")
def ml_100k(raw_data: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return catalog.prepare("ml-100k", tmp_path_factory.mktemp("data"), raw_data)


@pytest.fixture(scope="session")
def ml_1m(raw_data: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedDataset:
    return catalog.prepare("ml-1m", tmp_path_factory.mktemp("data"), raw_data / "ml-1m")


@pytest.fixture
def recbole(raw_data: Path, tmp_path: Path) -> Path:
    return copy_files(raw_data / "ml-100k", tmp_path / "ml-100k", RECBOLE)


def test_a_small_file_by_hand() -> None:
    contents = parse_ml_1m()
    rows, users, items = (contents.tables[name] for name in ("rows", "users", "items"))
    assert rows["user_id"].tolist() == [0, 0, 1]
    assert rows["item_id"].tolist() == [0, 1, 0]
    assert rows["label"].tolist() == [1.0, 0.0, 1.0]
    assert rows["timestamp"].tolist() == [0.0, 1.0, pytest.approx(1208 / 1349)]
    assert users["gender"].tolist() == [0, 1]
    assert items["title"].shape == (2, 15), "a movie without ratings is no item"
    assert items["count"].tolist() == [1.0, 0.5]
    assert items["year"].tolist() == [0, 0]
    titles = {"les": 1, "misérables": 2, "story": 3, "toy": 4}
    assert items["title"][:, :2].tolist() == [
        [titles["toy"], titles["story"]],
        [titles["misérables"], titles["les"]],
    ]
    assert {values.dtype for table in contents.tables.values() for values in table.values()} == {
        np.dtype(np.int32),
        np.dtype(np.float32),
    }


@pytest.mark.parametrize(
    ("title", "expected"),
    [
        ("Toy Story (1995)", ("Toy Story", "1995")),
        ("2001: A Space Odyssey (1968)", ("2001: A Space Odyssey", "1968")),
        ("Seven (Se7en) (1995)", ("Seven (Se7en)", "1995")),
        ("Land Before Time III: The Time of the Great Giving (1995) (V)",
         ("Land Before Time III: The Time of the Great Giving", "1995")),
        ("Marlene Dietrich: Shadow and Light (1996) ", ("Marlene Dietrich: Shadow and Light", "1996")),
        ("unknown", ("unknown", "")),
        ("Blues Brothers 2000", ("Blues Brothers 2000", "")),
    ],
)  # fmt: skip
def test_the_year_is_taken_out_of_the_title(title: str, expected: tuple[str, str]) -> None:
    assert split_title(title) == expected


def test_movies_in_utf_8_give_the_same_rows_as_in_latin_1() -> None:
    other = parse_ml_1m(movies=SMALL_ML_1M["movies.dat"].encode("utf-8"))
    assert other.tables["items"]["title"].tolist() == parse_ml_1m().tables["items"]["title"].tolist()


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("ratings", "1::10::5\n", r"ratings\.dat: line 1: 3 fields, 4 expected, separated by '::'"),
        ("ratings", "1::10::5::9\n1::20::x::9\n", r"ratings\.dat: line 2: rating 'x', an integer expected"),
        ("ratings", "1::10::5::9\n1::20::4.5::9\n", r"ratings\.dat: line 2: rating '4.5', an integer expected"),
        ("ratings", "1::10::5::9\n\n1::20::4::9\n", r"ratings\.dat: line 2: 1 fields, 4 expected"),
        ("ratings", "1::10::5::9\n1::20::::9\n", r"ratings\.dat: line 2: rating '', an integer expected"),
        ("ratings", "1::10::5::9\n1::20::4\t::9\n", r"ratings\.dat: line 2: rating '4\\t', an integer"),
        ("ratings", "1,10,5,9\n", r"ratings\.dat: line 1: 1 fields, 4 expected"),
        ("ratings", "", r"ratings\.dat: line 1: 1 fields, 4 expected"),
        ("ratings", "1::10::5::9\n1::20::6::9\n", r"ratings\.dat: line 2: rating 6, 1 to 5 expected"),
        ("ratings", "1::10::0::9\n", r"ratings\.dat: line 1: rating 0, 1 to 5 expected"),
        ("ratings", "1::10::5::9\n3::20::4::9\n", r"ratings\.dat: line 2: user 3 is not in the users' file"),
        ("ratings", "1::40::4::9\n", r"ratings\.dat: line 1: movie 40 is not in the movies' file"),
        ("ratings", "1::10::4::-9\n", r"ratings\.dat: line 1: timestamp -9, seconds since 1970 expected"),
        ("users", "1::F::1::10\n", r"users\.dat: line 1: 4 fields, 5 expected"),
        ("users", "1::F::1::10::48067\nx::F::1::10::48067\n", r"users\.dat: line 2: user 'x', an integer expected"),
        ("movies", "10::Toy Story (1995)::Comedy\n20::Heat\n", r"movies\.dat: line 2: 2 fields, 3 expected"),
        ("movies", b"10::Toy\n20::\xc3\x89t\xc3\xa9 (1995)::Drama\n30::\xe9 (1995)::Drama\n", r"movies\.dat: line 1"),
        ("movies", b"10::Toy::X\n20::\xc3\x89t\xc3\xa9 (1995)::X\n30::\xe9 (1995)::X\n",
         r"movies\.dat: line 2: not latin-1"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(file: str, text: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message) as error:
        parse_ml_1m(**{file: text})
    assert "\n" not in str(error.value)


def test_ml_100k_has_the_known_sizes(ml_100k: PreparedDataset) -> None:
    schema = ml_100k.schema
    sizes = {split: known.rows for split, known in schema.splits.items()}
    assert [sizes[split] for split in ("base", "warm_a", "warm_b", "warm_c", "test")] == [
        64419,
        4720,
        4720,
        4720,
        13147,
    ]
    assert (schema.users, schema.items, schema.facts["hot_items"], schema.facts["new_items"]) == (943, 1682, 334, 472)
    assert schema.note == ""
    assert [file.file for file in schema.inputs] == list(RECBOLE)


def test_validation_rows_are_base_rows_and_test_items_stay_untouched(ml_100k: PreparedDataset) -> None:
    rows = read_table(ml_100k.folder / "rows.parquet")
    assert (rows["split"][rows["validation_split"] >= 0] == 0).all()
    seen = set(rows["item_id"][rows["validation_split"] >= 0])
    assert seen.isdisjoint(rows["item_id"][rows["split"] == 4])
    pseudo_new = len(set(rows["item_id"][rows["validation_split"] > 0]))
    assert 334 / 5 <= pseudo_new <= 334 / 5 + 5


def test_both_layouts_of_ml_100k_give_the_same_rows(ml_100k: PreparedDataset, raw_data: Path, tmp_path: Path) -> None:
    raw = grouplens_ml_100k(raw_data / "ml-100k", tmp_path / "raw")
    other = catalog.prepare("ml-100k", tmp_path / "data", raw)
    assert other.hash == ml_100k.hash
    assert other.schema.fields == ml_100k.schema.fields
    assert [file.file for file in other.schema.inputs] == ["u.data", "u.user", "u.item"]
    assert other.schema.note == ""


def test_an_altered_file_in_grouplens_layout_is_refused(raw_data: Path, tmp_path: Path) -> None:
    raw = grouplens_ml_100k(raw_data / "ml-100k", tmp_path / "raw")
    replace_line(raw / "u.user", 3, "3|23|F|writer|32067")
    with pytest.raises(DataError, match=r"u\.data: .* altered or reordered") as error:
        catalog.prepare("ml-100k", tmp_path / "data", raw)
    assert "\n" not in str(error.value)


def test_ml_1m_has_the_known_sizes_and_says_that_it_is_assembled(ml_1m: PreparedDataset) -> None:
    schema = ml_1m.schema
    sizes = {split: known.rows for split, known in schema.splits.items()}
    assert sizes["base"] == 854_530
    assert [sizes[f"warm_{block}"] for block in "abc"] == [19_440] * 3
    assert sizes["test"] == 58_409
    assert (schema.users, schema.items, schema.facts["positives"]) == (6_040, 3_706, 575_281)
    assert (schema.facts["hot_items"], schema.facts["new_items"]) == (1_420, 972)
    assert "assembled copy" in schema.note
    assert [field.name for field in ml_1m.fields] == [
        *("user_id", "gender", "age", "occupation", "zip"),
        *("item_id", "year", "title", "genres", "count", "timestamp"),
    ]


def test_rows_are_what_the_raw_file_says(ml_1m: PreparedDataset, raw_data: Path) -> None:
    rows, items = (read_table(ml_1m.folder / f"{name}.parquet") for name in ("rows", "items"))
    lines = (raw_data / "ml-1m" / "ratings.dat").read_text().splitlines()
    rated = sorted({int(line.split("::")[1]) for line in lines})
    counts: dict[int, int] = {}
    for line in lines:
        counts[int(line.split("::")[1])] = counts.get(int(line.split("::")[1]), 0) + 1
    for row in (0, 1, 54_321, 999_999, 1_000_208):
        user, movie, rating, _ = lines[row].split("::")
        assert rows["user_id"][row] == int(user) - 1
        assert rated[rows["item_id"][row]] == int(movie)
        assert rows["label"][row] == (int(rating) >= 4)
        assert items["count"][rows["item_id"][row]] == pytest.approx(counts[int(movie)] / max(counts.values()))


def test_a_reordered_file_of_ml_1m_is_taken_by_its_counts_with_a_note(raw_data: Path, tmp_path: Path) -> None:
    raw = copy_files(raw_data / "ml-1m", tmp_path / "raw", movielens_1m.FILES)
    head, _, rest = (raw / "ratings.dat").read_bytes().partition(b"\n")
    second, _, rest = rest.partition(b"\n")
    (raw / "ratings.dat").write_bytes(second + b"\n" + head + b"\n" + rest)
    prepared = catalog.prepare("ml-1m", tmp_path / "data", raw)
    assert prepared.schema.note.startswith("taken by their counts: ratings.dat (sha256 ")
    assert "assembled" not in prepared.schema.note


def test_truncated_files_are_refused(recbole: Path, tmp_path: Path) -> None:
    whole = (recbole / "ml-100k.inter").read_bytes()
    (recbole / "ml-100k.inter").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"ml-100k\.inter: [\d,]+ lines, 100,001 expected; the file is truncated"):
        catalog.prepare("ml-100k", tmp_path / "data", recbole)
    (recbole / "ml-100k.inter").write_bytes(whole[:-4])
    with pytest.raises(DataError, match=r"ml-100k\.inter: line 100,001: no line end; the file is truncated"):
        catalog.prepare("ml-100k", tmp_path / "data", recbole)
    (recbole / "ml-100k.inter").write_bytes(b"")
    with pytest.raises(DataError, match=r"ml-100k\.inter: 0 lines, 100,001 expected"):
        catalog.prepare("ml-100k", tmp_path / "data", recbole)
    assert not (tmp_path / "data" / "prepared" / "ml-100k").exists()


@pytest.mark.parametrize(
    ("file", "number", "line", "message"),
    [
        ("ml-100k.inter", 5, "244\t51\ttwo\t880606923", r"ml-100k\.inter: line 5: rating 'two', an integer expected"),
        ("ml-100k.inter", 5, "244\t51\t2", r"ml-100k\.inter: line 5: 3 fields, 4 expected"),
        ("ml-100k.inter", 5, "", r"ml-100k\.inter: line 5: 1 fields, 4 expected"),
        ("ml-100k.inter", 1, "user item rating time", r"ml-100k\.inter: line 1: not the expected header"),
        ("ml-100k.inter", 7, "944\t51\t2\t880606923", r"ml-100k\.inter: line 7: user 944 is not in the users' file"),
        ("ml-100k.item", 9, b"8\tB\xe9be\t1995\tDrama", r"ml-100k\.item: line 9: not utf-8"),
        ("ml-100k.user", 2, None, r"ml-100k\.user: 943 lines, 944 expected"),
    ],
)
def test_an_altered_line_of_a_real_file_is_named(
    recbole: Path, tmp_path: Path, file: str, number: int, line: str | bytes | None, message: str
) -> None:
    replace_line(recbole / file, number, line)
    with pytest.raises(DataError, match=message) as error:
        catalog.prepare("ml-100k", tmp_path / "data", recbole)
    assert "\n" not in str(error.value)


def test_a_reordered_file_is_found_by_its_checksum_and_taken_on_request(recbole: Path, tmp_path: Path) -> None:
    lines = (recbole / "ml-100k.inter").read_bytes().split(b"\n")
    lines[1], lines[2] = lines[2], lines[1]
    (recbole / "ml-100k.inter").write_bytes(b"\n".join(lines))
    with pytest.raises(
        DataError, match=r"ml-100k\.inter: sha256 [0-9a-f]{64}, 4edb74e2[0-9a-f]+ expected; .*reordered"
    ):
        catalog.prepare("ml-100k", tmp_path / "data", recbole)
    taken = catalog.prepare("ml-100k", tmp_path / "data", recbole, accept_unknown=True)
    assert taken.schema.note.startswith("not the known files: ml-100k.inter (sha256 ")
    assert catalog.verify("ml-100k", tmp_path / "data") == []


def test_any_readable_files_are_taken_on_request(tmp_path: Path) -> None:
    raw = write_files(tmp_path / "raw", SMALL_ML_1M)
    with pytest.raises(DataError, match=r"ratings\.dat: 3 lines, 1,000,209 expected"):
        catalog.prepare("ml-1m", tmp_path / "data", raw)
    taken = catalog.prepare("ml-1m", tmp_path / "data", raw, accept_unknown=True)
    assert taken.schema.facts["rows"] == 3


def test_the_wrong_file_is_refused(raw_data: Path, recbole: Path, tmp_path: Path) -> None:
    shutil.copy(recbole / "ml-100k.user", recbole / "ml-100k.item")
    with pytest.raises(DataError, match=r"ml-100k\.item: 944 lines, 1,683 expected"):
        catalog.prepare("ml-100k", tmp_path / "data", recbole)


def test_preparing_again_does_nothing_and_a_fresh_one_gives_the_same_bytes(
    ml_100k: PreparedDataset, raw_data: Path, tmp_path: Path
) -> None:
    first = catalog.prepare("ml-100k", tmp_path, raw_data)
    before = (first.folder / "schema.json").stat()
    again = catalog.prepare("ml-100k", tmp_path, raw_data)
    assert (again.folder / "schema.json").stat() == before
    for file in ("schema.json", "rows.parquet", "users.parquet", "items.parquet"):
        assert (first.folder / file).read_bytes() == (ml_100k.folder / file).read_bytes()
    assert json.loads((first.folder / "schema.json").read_text())["hash"] == ml_100k.hash


def test_verify_finds_changed_rows_and_sizes(raw_data: Path, tmp_path: Path) -> None:
    prepared = catalog.prepare("ml-100k", tmp_path, raw_data)
    assert catalog.verify("ml-100k", tmp_path) == []
    path = prepared.folder / "schema.json"
    schema = json.loads(path.read_text())
    schema["hash"], schema["splits"]["test"]["rows"] = "0" * 64, 13_146
    path.write_text(json.dumps(schema))
    problems = catalog.verify("ml-100k", tmp_path)
    assert [problem.partition(";")[0] for problem in problems] == [
        "ml-100k: the rows differ from schema.json's hash",
        "ml-100k: split test has 13,147 rows, schema.json says 13,146",
        "ml-100k: test: 13,146, 13,147 expected",
    ]
    (prepared.folder / "items.parquet").unlink()
    assert len(catalog.verify("ml-100k", tmp_path)) == 1
