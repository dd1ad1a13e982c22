"""Steam's game reviews (Kang, McAuley 2018), users split 8:1:1, histories of up to 10, 20, 30, 40 or 50 games.

`steam_reviews.json.gz` has one review a line, a dictionary as Python 2 writes it: `username`, `product_id`, `date` (a
day; equal ones keep the file's order) and more. `steam_games.json.gz`, which need not be there, has the games: `id`,
`app_name`, `publisher`, `genres` and `tags`.

Users and games with fewer than 20 reviews are left out, both counted before (PreferDiff D.1). That is how the printed
437,733 interactions come about: 11 for each of 39,795 users, less 12 of users who have fewer left.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from harness.datasets.item_descriptions import ItemDescription, one_line
from harness.datasets.raw import Dataset, KnownFile, RawFile, RawFiles
from harness.datasets.records import day_of, literal_records, text_of
from harness.datasets.sequences import (
    HISTORY_LENGTH,
    LONGER_HISTORIES,
    by_user,
    collected,
    frequent,
    sequence_contents,
    user_split,
    with_history,
)
from harness.datasets.writing import Contents

REVIEWS, GAMES = "steam_reviews.json.gz", "steam_games.json.gz"
AT_LEAST = 20
LONGEST_TITLE = 200
LONGEST_TAG = 60

REVIEWS_LAYOUT = {REVIEWS: KnownFile(0, streamed=True)}
LAYOUT = {**REVIEWS_LAYOUT, GAMES: KnownFile(0, streamed=True)}


def parse(files: RawFiles, *, history_length: int = HISTORY_LENGTH) -> Contents:
    """Return the contents.

    Raises:
        DataError: a line cannot be read.
    """
    reviews = collected(_reviews(files[REVIEWS]))
    sequences = by_user(frequent(reviews, users=AT_LEAST, items=AT_LEAST))
    games = _games(files[GAMES]) if GAMES in files else {}
    return sequence_contents(
        user_split(sequences.rows, history_length),
        items=len(sequences.item_names),
        users=len(sequences.rows),
        history_length=history_length,
        facts={"reviews": len(reviews), "reviewers": reviews.users},
        described_items=[games.get(name, ItemDescription()) for name in sequences.item_names] if games else (),
    )


def _reviews(file: RawFile) -> Iterator[tuple[str, str, int]]:
    for line, record in literal_records(file):
        user, game = text_of(file, line, record, "username"), text_of(file, line, record, "product_id")
        yield user, game, day_of(file, line, record, "date")


def _games(file: RawFile) -> dict[str, ItemDescription]:
    games = {}
    for _, record in literal_records(file):
        title = one_line(record.get("app_name") or record.get("title"), LONGEST_TITLE)
        attributes = [record.get("publisher"), *_list(record.get("genres")), *_list(record.get("tags"))]
        names = dict.fromkeys(one_line(name, LONGEST_TAG) for name in attributes)
        games[str(record.get("id"))] = ItemDescription(title, tuple(name for name in names if name))
    return games


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _datasets() -> Iterator[Dataset]:
    for length in (HISTORY_LENGTH, *LONGER_HISTORIES):
        yield Dataset(
            name=with_history("steam", length),
            title=f"Steam's game reviews, users split 8:1:1, up to {length} games of history",
            kind="sequences",
            folder="steam",
            source=f"{REVIEWS}, and {GAMES} for the games' text, of SASRec's authors (no licence stated)",
            layouts=(LAYOUT, REVIEWS_LAYOUT),
            parse=partial(parse, history_length=length),
            facts={"reviews": 7_793_069, "reviewers": 2_567_538},
            counts_suffice=True,
            tried=False,
        )


DATASETS = tuple(_datasets())
