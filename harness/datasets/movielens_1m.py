"""MovieLens-1M as a cold-start dataset: N = 200, K = 20 (CSDM §5.1, after MWUF and CVAR)."""

from __future__ import annotations

from pathlib import Path

from harness.datasets.download import fetch_and_unpack
from harness.datasets.movielens import RATING_COLUMNS, Movie, User, movielens_contents, split_title
from harness.datasets.raw import Dataset, KnownFile, RawFile, RawFiles, Say, integer, integer_columns, text_rows
from harness.datasets.writing import Contents

ASSEMBLED_RATINGS = "368e4973a7c4d5348e1f08e0ebb5e43dfe7147e91a27e0c8f811fb2fbd63e51c"
ASSEMBLED_NOTE = (
    "measured on an assembled copy of MovieLens-1M: labels and order are right, but 212,505 of the ratings below 4 are"
    " written as 3 and 297,747 timestamps are interpolated"
)
FILES = ("ratings.dat", "users.dat", "movies.dat")
LAYOUT = {
    "ratings.dat": KnownFile(1_000_209, (ASSEMBLED_RATINGS,)),
    "users.dat": KnownFile(6_040, ("1dc3a95300cb19f7c10e027daf29b8cdf1d908dab65b5edfb45950aa389a10a3",)),
    "movies.dat": KnownFile(3_883, ("0140fc2356357c1a851d0f52e893a1e4d3696df632c4141cea8d5bc3d621f0b9",)),
}


def parse(files: RawFiles) -> Contents:
    """Return the contents; files are separated by `::`, titles are latin-1.

    Raises:
        DataError: a line cannot be read.
    """
    ratings, users, movies = (files[name] for name in FILES)
    return movielens_contents(
        ratings,
        integer_columns(ratings, b"::", RATING_COLUMNS),
        _users(users),
        read_movies(movies),
        first_line=1,
        hot_above=200,
        block=20,
        note=ASSEMBLED_NOTE if ratings.sha256 == ASSEMBLED_RATINGS else "",
    )


def download(folder: Path, say: Say) -> None:
    """Fetch the official archive.

    Raises:
        DataError: it cannot be fetched, or is another file.
    """
    fetch_and_unpack(
        "https://files.grouplens.org/datasets/movielens/ml-1m.zip",
        folder,
        members={f"ml-1m/{name}": name for name in FILES},
        say=say,
        md5="c4d9eecfca2ab87c1945afe126590906",
    )


def _users(file: RawFile) -> dict[int, User]:
    users = {}
    for line, (user, gender, age, occupation, zip_code) in text_rows(file, "::", 5, encoding="latin-1"):
        users[integer(file, line, user, "user")] = User(gender, integer(file, line, age, "age"), occupation, zip_code)
    return users


def read_movies(file: RawFile) -> dict[int, Movie]:
    """Return the movies by id.

    Raises:
        DataError: a line cannot be read.
    """
    movies = {}
    for line, (movie, title, genres) in text_rows(file, "::", 3, encoding="latin-1"):
        movies[integer(file, line, movie, "movie")] = Movie(*split_title(title), tuple(genres.split("|")))
    return movies


DATASETS = (
    Dataset(
        name="ml-1m",
        title="MovieLens-1M, cold start with N = 200, K = 20",
        kind="interactions",
        folder="ml-1m",
        source="ratings.dat, users.dat and movies.dat of GroupLens' ml-1m.zip (research use, no redistribution)",
        layouts=(LAYOUT,),
        parse=parse,
        facts={
            "rows": 1_000_209,
            "users": 6_040,
            "items": 3_706,
            "positives": 575_281,
            "hot_items": 1_420,
            "new_items": 972,
            "base": 854_530,
            "warm_a": 19_440,
            "warm_b": 19_440,
            "warm_c": 19_440,
            "test": 58_409,
        },
        counts_suffice=True,
        download=download,
    ),
)
