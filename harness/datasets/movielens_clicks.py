"""The MovieLens datasets for the task `ctr`: all rows, by time or at random.

Fields: those of the cold-start datasets without `timestamp` and `count`, of which the one tells a time-ordered split
apart and the other counts test rows; instead the hour of the day and the day of the week (UTC). The label is 1 for a
rating of 4 or 5.

Legend: R rows.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets import movielens_1m, movielens_100k
from harness.datasets.click_split import click_contents
from harness.datasets.encoding import Column, encode_categories
from harness.datasets.movielens import RATING_COLUMNS
from harness.datasets.raw import Dataset, RawFiles, integer_columns
from harness.datasets.writing import Contents

HOUR, DAY = 3600, 86400
FIRST_WEEKDAY = 4  # 1970-01-01 was a Thursday; Sunday is 0


def parse_1m(files: RawFiles) -> Contents:
    """Return the contents of MovieLens-1M.

    Raises:
        DataError: a line cannot be read.
    """
    ratings = integer_columns(files["ratings.dat"], b"::", RATING_COLUMNS)
    return as_clicks(movielens_1m.parse(files), ratings["timestamp"])


def parse_100k(files: RawFiles) -> Contents:
    """Return the contents of MovieLens-100k, in GroupLens' layout or in RecBole's.

    Raises:
        DataError: a line cannot be read.
    """
    if "u.data" in files:
        ratings = integer_columns(files["u.data"], b"\t", RATING_COLUMNS)
    else:
        header = movielens_100k.RECBOLE_INTER
        ratings = integer_columns(files["ml-100k.inter"], b"\t", RATING_COLUMNS, header=header)
    return as_clicks(movielens_100k.parse(files), ratings["timestamp"])


def as_clicks(cold_start: Contents, time_R: NDArray[Any]) -> Contents:
    """Return the rows of a cold-start dataset with the splits of the task `ctr`; `time_R` in seconds since 1970."""
    columns = {
        field.name: Column(field, cold_start.tables[table][field.name])
        for field in cold_start.fields
        for table in ("rows", "users", "items")
        if field.name in cold_start.tables[table]
    }
    return click_contents(
        row_columns=(
            columns["user_id"],
            columns["item_id"],
            encode_categories("hour", "context", time_R % DAY // HOUR),
            encode_categories("weekday", "context", (time_R // DAY + FIRST_WEEKDAY) % 7),
        ),
        user_columns=[column for column in columns.values() if column.field.role == "user"],
        item_columns=[c for c in columns.values() if c.field.role == "item" and c.field.name != "count"],
        time_R=time_R,
        label_R=np.asarray(cold_start.tables["rows"]["label"]),
        note=cold_start.note,
    )


def _clicks(cold_start: Dataset, title: str, **changed: Any) -> Dataset:
    counts = {name: cold_start.facts[name] for name in ("rows", "users", "items", "positives")}
    name = f"{cold_start.name}-ctr"
    return replace(cold_start, name=name, title=title, facts=counts, row_hashes=(), **changed)


DATASETS = (
    _clicks(
        movielens_1m.DATASETS[0], "MovieLens-1M for click-through rates, by time or at random 8:1:1", parse=parse_1m
    ),
    _clicks(
        movielens_100k.DATASETS[0],
        "MovieLens-100k for click-through rates, by time or at random 8:1:1",
        parse=parse_100k,
        counts_suffice=True,
    ),
)
