"""Yahoo! R1, ratings of musical artists (Webscope): 50,000 users at random, split 8:1:1.

`ydata-ymusic-user-artist-ratings-v1_0.txt` has one rating a line, separated by tabs and without a time: user, artist,
rating; a user's lines stand together, and their order stands in for time. `ydata-ymusic-artist-names-v1_0.txt`, which
need not be there, has the artists' names. Users and artists with fewer than 20 ratings are left out, both counted
before; artists below 1, which stand for none or an unknown one, are left out too. Every rating counts, low or high.

Source: PreferDiff D.1 and F.1, which say neither which users were drawn nor in what order their ratings were taken.

Legend: R ratings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from harness.datasets.integer_blocks import integer_blocks
from harness.datasets.item_descriptions import ItemDescription, one_line
from harness.datasets.raw import Dataset, KnownFile, RawFile, RawFiles, StreamedFile, is_integer
from harness.datasets.sequences import HISTORY_LENGTH, Interactions, by_user, sequence_contents, user_split
from harness.datasets.writing import Contents

RATINGS, NAMES = "ydata-ymusic-user-artist-ratings-v1_0.txt", "ydata-ymusic-artist-names-v1_0.txt"
COLUMNS = ("user", "artist", "rating")
AT_LEAST = 20
USERS = 50_000
DRAW_SEED = 2024
LARGEST_ID = 1 << 24
LONGEST_NAME = 200

RATINGS_LAYOUT = {RATINGS: KnownFile(0, streamed=True)}
LAYOUT = {**RATINGS_LAYOUT, NAMES: KnownFile(0, streamed=True)}


def parse(files: RawFiles, *, users: int = USERS) -> Contents:
    """Return the contents.

    Raises:
        DataError: the ratings cannot be read.
    """
    ratings, kept = _drawn(files[RATINGS], users)
    sequences = by_user(kept)
    names = _names(files[NAMES]) if NAMES in files else {}
    return sequence_contents(
        user_split(sequences.rows, HISTORY_LENGTH),
        items=len(sequences.item_names),
        users=len(sequences.rows),
        facts={"ratings": ratings},
        described_items=[ItemDescription(names.get(int(name), "")) for name in sequences.item_names] if names else (),
    )


def _drawn(file: RawFile, users: int) -> tuple[int, Interactions]:
    """Return the number of all ratings, and those of the drawn users. Two passes: one counts, one takes."""
    of_user, of_artist, ratings = np.zeros(0, np.int64), np.zeros(0, np.int64), 0
    for block in _blocks(file):
        ratings += len(block["user"])
        of_user = _added(of_user, block["user"], block["artist"] > 0)
        of_artist = _added(of_artist, np.maximum(block["artist"], 0), block["artist"] > 0)
    candidates = np.flatnonzero(of_user >= AT_LEAST)
    drawn = np.zeros(len(of_user), dtype=bool)
    drawn[np.random.default_rng(DRAW_SEED).permutation(candidates)[:users]] = True
    taken: list[tuple[NDArray[np.int64], NDArray[np.int64]]] = []
    for block in _blocks(file):
        artist_R = np.maximum(block["artist"], 0)
        kept_R = (artist_R > 0) & (of_artist[artist_R] >= AT_LEAST)
        kept_R &= drawn[block["user"]]
        taken.append((block["user"][kept_R], artist_R[kept_R]))
    user_R, artist_R = (np.concatenate([part[column] for part in taken]) for column in (0, 1))
    artists = np.flatnonzero(of_artist >= AT_LEAST)
    width = len(str(len(of_artist)))  # as texts of one width, numbers sort as numbers
    names = [f"{artist:0{width}d}" for artist in artists.tolist()]
    item_R = np.searchsorted(artists, artist_R)
    return ratings, Interactions(user_R, item_R, np.arange(len(user_R)), names)


def _blocks(file: RawFile) -> Iterator[Mapping[str, NDArray[np.int64]]]:
    for block in integer_blocks(file, COLUMNS):
        for name in ("user", "artist"):
            low, high = int(block[name].min()), int(block[name].max())
            if high >= LARGEST_ID or (name == "user" and low < 0):
                file.fail(1, f"{name} {high if high >= LARGEST_ID else low}; the file has another format")
        yield block


def _added(count: NDArray[np.int64], value_R: NDArray[np.int64], counts_R: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the counts with those of the values that count on top."""
    more = np.bincount(value_R, weights=counts_R, minlength=len(count)).astype(np.int64)
    more[: len(count)] += count
    return more


def _names(file: RawFile) -> dict[int, str]:
    assert isinstance(file, StreamedFile)
    names = {}
    for line in file.path.read_text(encoding="cp1252", errors="replace").splitlines():
        number, separator, name = line.partition("\t")
        if separator and is_integer(number):
            names[int(number)] = one_line(name, LONGEST_NAME)
    return names


DATASETS = (
    Dataset(
        name="yahoo-r1",
        title="Yahoo! R1, ratings of musical artists: 50,000 users at random, split 8:1:1",
        kind="sequences",
        folder="yahoo-r1",
        source=f"{RATINGS}, and {NAMES} for the artists' names, of Yahoo! Webscope's R1 (research use)",
        layouts=(LAYOUT, RATINGS_LAYOUT),
        parse=parse,
        facts={"ratings": 115_579_440, "users": USERS},
        counts_suffice=True,
        tried=False,
    ),
)
