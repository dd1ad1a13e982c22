from pathlib import Path

import pytest

from harness.datasets import catalog
from harness.datasets.movielens_sequences import parse
from harness.datasets.raw import RawFile
from harness.datasets.writing import Contents, read_table
from harness.errors import DataError

MOVIES = "2::Jumanji (1995)::Adventure|Children's\n10::GoldenEye (1995)::Action\n30::Nobody's::Drama\n"


def parsed(ratings: str, movies: str = MOVIES) -> Contents:
    texts = {"ratings.dat": ratings, "movies.dat": movies}
    return parse({name: RawFile(name, text.encode()) for name, text in texts.items()})


def test_ratings_are_sequences_in_the_order_of_time() -> None:
    contents = parsed("7::10::5::30\n7::2::1::20\n3::2::4::5\n3::10::2::5\n")
    assert (contents.users, contents.items) == (2, 2)
    rows = [
        tuple(table["history"][0][:1].tolist() + table["target"].tolist())
        for table in contents.tables.values()
        if len(table["target"]) == 1
    ]
    assert sorted(rows) == [(1, 2), (1, 2)]
    assert [one.title for one in contents.described_items] == ["Jumanji (1995)", "GoldenEye (1995)"]
    assert contents.described_items[0].attributes == ("Adventure", "Children's")


def test_a_movie_that_is_not_known_is_named() -> None:
    with pytest.raises(DataError, match=r"ratings\.dat: line 2: movie 11 is not in the movies' file"):
        parsed("7::10::5::30\n7::11::1::20\n")


@pytest.mark.parametrize("digits", [19, 5000])
def test_a_number_that_is_too_large_is_named(digits: int) -> None:
    expected = ", an integer expected, of 18 digits at most"
    with pytest.raises(DataError, match=rf"movies\.dat: line 4: movie '9{{19,39}}'?{expected}$"):
        parsed("7::10::5::30\n", f"{MOVIES}{'9' * digits}::Late::Drama\n")
    with pytest.raises(DataError, match=rf"ratings\.dat: line 1: timestamp '9{{19,39}}'?{expected}$"):
        parsed(f"7::10::5::{'9' * digits}\n")


@pytest.mark.parametrize(("name", "longest"), [("ml-1m-next-item", 10), ("ml-1m-next-item-history-30", 30)])
def test_every_user_of_movielens_1m_is_a_sequence(name: str, longest: int, raw_data: Path, tmp_path: Path) -> None:
    prepared = catalog.prepare(name, tmp_path, raw_data)
    assert (prepared.schema.users, prepared.schema.items) == (6_040, 3_706)  # PreferDiff Table 5
    assert prepared.schema.history_length == longest
    assert [split.rows for split in prepared.schema.splits.values()] == [4_832, 604, 604]
    lengths = [read_table(prepared.folder / f"{split}.parquet")["length"] for split in prepared.schema.splits]
    assert sum(int(length.sum()) + len(length) for length in lengths) == prepared.schema.facts["interactions"]
    assert max(int(length.max()) for length in lengths) == longest
    assert min(int(length.min()) for length in lengths) == min(longest, 19)  # everybody rated 20 movies or more
    assert len((prepared.folder / "item_text.csv").read_text(encoding="utf-8").splitlines()) == 3_707


def test_the_last_ratings_of_a_user_are_the_example(raw_data: Path, tmp_path: Path) -> None:
    prepared = catalog.prepare("ml-1m-next-item", tmp_path, raw_data)
    ratings: dict[int, list[tuple[int, int]]] = {}
    for line in (raw_data / "ml-1m/ratings.dat").read_text().splitlines():
        user, movie, _, time = map(int, line.split("::"))
        ratings.setdefault(user, []).append((time, movie))
    number = {movie: index for index, movie in enumerate(sorted({m for own in ratings.values() for _, m in own}), 1)}
    expected = {
        tuple(number[movie] for _, movie in sorted(own, key=lambda one: one[0])[-11:]) for own in ratings.values()
    }
    found = set()
    for split in prepared.schema.splits:
        table = read_table(prepared.folder / f"{split}.parquet")
        columns = (table["history"].tolist(), table["target"].tolist())
        found |= {(*history, target) for history, target in zip(*columns, strict=True)}
    assert found == expected
