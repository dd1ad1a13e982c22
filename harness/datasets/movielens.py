"""What the two MovieLens datasets share: users, movies and ratings as cold-start contents.

Fields (of CVAR's protocol, which CSDM follows): user_id, gender, age, occupation, zip, item_id, year, title (at most 15
words), genres (at most 6), timestamp and count. The label is 1 for a rating of 4 or 5. Items are the movies that
somebody rated.

Legend: R rows, U users, I items.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.encoding import encode_categories, encode_sequence, title_words
from harness.datasets.interactions import cold_start_contents
from harness.datasets.raw import RawFile, first_index
from harness.datasets.writing import Contents

TITLE_WORDS = 15
GENRES = 6
POSITIVE = 4
RATING_COLUMNS = ("user", "movie", "rating", "timestamp")


@dataclass(frozen=True)
class User:
    """A user; `zip_code` as written."""

    gender: str
    age: int
    occupation: str
    zip_code: str


@dataclass(frozen=True)
class Movie:
    """A movie; `year` is empty where the title has none."""

    title: str
    year: str
    genres: tuple[str, ...]


def split_title(title: str) -> tuple[str, str]:
    """Return the title without its year, and the year: the last four digits in brackets; both without when missing."""
    found = re.search(r"^(.*)\((\d{4})\)[^()]*(?:\([^()\d]*\))?\s*$", title)
    return (found[1].strip(), found[2]) if found else (title.strip(), "")


def movielens_contents(
    file: RawFile,
    ratings: Mapping[str, NDArray[np.int64]],
    users: Mapping[int, User],
    movies: Mapping[int, Movie],
    *,
    first_line: int,
    hot_above: int,
    block: int,
    note: str = "",
) -> Contents:
    """Return the contents of a MovieLens dataset; `ratings` has the columns of the ratings file.

    Raises:
        DataError: a line of the ratings file has a rating outside 1 … 5, or a user or movie that is not known.
    """
    user_R, movie_R, rating_R, time_R = (ratings[name] for name in RATING_COLUMNS)
    _check(file, first_line, (rating_R < 1) | (rating_R > 5), rating_R, "rating {}, 1 to 5 expected")
    _check(file, first_line, ~np.isin(user_R, list(users)), user_R, "user {} is not in the users' file")
    _check(file, first_line, ~np.isin(movie_R, list(movies)), movie_R, "movie {} is not in the movies' file")
    _check(file, first_line, time_R <= 0, time_R, "timestamp {}, seconds since 1970 expected")
    user_U, user_index_R = np.unique(user_R, return_inverse=True)
    movie_I, item_R = np.unique(movie_R, return_inverse=True)
    user_rows = [users[user] for user in user_U.tolist()]
    movie_rows = [movies[movie] for movie in movie_I.tolist()]
    return cold_start_contents(
        user_R=user_index_R.astype(np.int32),
        item_R=item_R.astype(np.int32),
        time_R=time_R,
        label_R=rating_R >= POSITIVE,
        user_columns=(
            encode_categories("gender", "user", [user.gender for user in user_rows]),
            encode_categories("age", "user", np.array([user.age for user in user_rows])),
            encode_categories("occupation", "user", [user.occupation for user in user_rows]),
            encode_categories("zip", "user", [user.zip_code for user in user_rows]),
        ),
        item_columns=(
            encode_categories("year", "item", [movie.year for movie in movie_rows]),
            encode_sequence("title", "item", [title_words(movie.title) for movie in movie_rows], TITLE_WORDS),
            encode_sequence("genres", "item", _sorted_genres(movie_rows), GENRES),
        ),
        hot_above=hot_above,
        block=block,
        note=note,
    )


def _sorted_genres(movies: Sequence[Movie]) -> list[list[str]]:
    return [sorted(movie.genres) for movie in movies]


def _check(file: RawFile, first_line: int, wrong_R: NDArray[np.bool_], value_R: NDArray[Any], problem: str) -> None:
    index = first_index(wrong_R)
    if index is not None:
        file.fail(first_line + index, problem.format(value_R[index]))
