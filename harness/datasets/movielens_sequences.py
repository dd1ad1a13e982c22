"""MovieLens-1M as a next-item dataset: PreferDiff's user split, histories of up to 10, 20, 30, 40 or 50 movies.

Every rating counts, in the order of time; equal times keep the file's order. PreferDiff D.1 leaves out users and movies
with fewer than 20 ratings, but prints 6,040 sequences of 3,706 movies: every movie that somebody rated, and 663 of them
have fewer than 20 ratings. Here none is left out, and every user has 20 or more.

Legend: R ratings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

import numpy as np

from harness.datasets import movielens_1m
from harness.datasets.item_descriptions import ItemDescription, one_line
from harness.datasets.movielens import RATING_COLUMNS, Movie
from harness.datasets.raw import Dataset, RawFile, RawFiles, first_index, integer_columns
from harness.datasets.sequences import (
    HISTORY_LENGTH,
    LONGER_HISTORIES,
    Interactions,
    by_user,
    sequence_contents,
    user_split,
    with_history,
)
from harness.datasets.writing import Contents

LONGEST_TITLE = 200


def parse(files: RawFiles, *, history_length: int = HISTORY_LENGTH) -> Contents:
    """Return the contents; ids follow the movies' numbers.

    Raises:
        DataError: a line cannot be read, or a movie is not in the movies' file.
    """
    file = files["ratings.dat"]
    movies = movielens_1m.read_movies(files["movies.dat"])
    ratings = _ratings(file, movies)
    sequences = by_user(ratings)
    return sequence_contents(
        user_split(sequences.rows, history_length),
        items=len(sequences.item_names),
        users=len(sequences.rows),
        history_length=history_length,
        facts={"ratings": len(ratings)},
        note=movielens_1m.ASSEMBLED_NOTE if file.sha256 == movielens_1m.ASSEMBLED_RATINGS else "",
        described_items=[_described(movies[int(name)]) for name in sequences.item_names],
    )


def _ratings(file: RawFile, movies: Mapping[int, Movie]) -> Interactions:
    columns = integer_columns(file, b"::", RATING_COLUMNS)
    known = np.array(sorted(movies), dtype=np.int64)
    unknown = first_index(~np.isin(columns["movie"], known))
    if unknown is not None:
        file.fail(1 + unknown, f"movie {columns['movie'][unknown]} is not in the movies' file")
    width = len(str(known[-1]))  # as texts of one width, numbers sort as numbers
    names = [f"{movie:0{width}d}" for movie in known.tolist()]
    return Interactions(columns["user"], np.searchsorted(known, columns["movie"]), columns["timestamp"], names)


def _described(movie: Movie) -> ItemDescription:
    title = f"{movie.title} ({movie.year})" if movie.year else movie.title
    return ItemDescription(
        one_line(title, LONGEST_TITLE), tuple(one_line(genre, LONGEST_TITLE) for genre in movie.genres)
    )


def _datasets() -> Iterator[Dataset]:
    for length in (HISTORY_LENGTH, *LONGER_HISTORIES):
        yield Dataset(
            name=with_history("ml-1m-next-item", length),
            title=f"MovieLens-1M, users split 8:1:1, up to {length} movies of history",
            kind="sequences",
            folder="ml-1m",
            source=movielens_1m.DATASETS[0].source,
            layouts=(movielens_1m.LAYOUT,),
            parse=partial(parse, history_length=length),
            facts={
                "ratings": 1_000_209,
                "users": 6_040,
                "items": 3_706,
                "train": 4_832,
                "validation": 604,
                "test": 604,
            },
            counts_suffice=True,
            download=movielens_1m.download,
        )


DATASETS = tuple(_datasets())
