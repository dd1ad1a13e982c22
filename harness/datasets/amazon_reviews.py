"""Amazon's 5-core reviews and product metadata, of 2014 and of 2018.

`<category>_5.json.gz` has one review a line, a JSON object: `reviewerID`, `asin`, `unixReviewTime` and more.
`meta_<category>.json.gz`, which need not be there, has the products: `asin`, `title`, `brand` and `category` (2018,
JSON) or `categories` (2014, dictionaries as Python 2 writes them).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from harness.datasets.item_descriptions import ItemDescription, one_line
from harness.datasets.raw import KnownFile, Layout, RawFile, RawFiles
from harness.datasets.records import Record, json_records, literal_records, seconds_of, text_of
from harness.datasets.sequences import Interactions, Sequences, by_user, collected, frequent

LONGEST_TITLE = 300
LONGEST_ATTRIBUTE = 100


@dataclass(frozen=True)
class Category:
    """A category's files: its reviews, and its products with what they are written in."""

    reviews: str
    products: str
    literal: bool = False

    @property
    def layouts(self) -> tuple[Layout, Layout]:
        """The files with the products', and without."""
        reviews = {self.reviews: KnownFile(0, streamed=True)}
        return {**reviews, self.products: KnownFile(0, streamed=True)}, reviews


def read_reviews(file: RawFile) -> Interactions:
    """Return all reviews.

    Raises:
        DataError: a line cannot be read.
    """
    return collected(_reviews(file))


def filtered(reviews: Interactions, *, users: int, items: int) -> Sequences:
    """Return the sequences when first rare items are left out, then users with too few reviews of the others."""
    return by_user(frequent(frequent(reviews, items=items), users=users))


def descriptions(files: RawFiles, category: Category, asins: Iterable[str]) -> list[ItemDescription]:
    """Return what the products are, in the order asked for; none at all without their file.

    Raises:
        DataError: a line cannot be read.
    """
    if category.products not in files:
        return []
    file = files[category.products]
    wanted = {asin: ItemDescription() for asin in asins}
    for _, record in literal_records(file) if category.literal else json_records(file):
        asin = record.get("asin")
        if isinstance(asin, str) and asin in wanted:
            wanted[asin] = _described(record)
    return list(wanted.values())


def _reviews(file: RawFile) -> Iterator[tuple[str, str, int]]:
    for line, record in json_records(file):
        user, item = text_of(file, line, record, "reviewerID"), text_of(file, line, record, "asin")
        yield user, item, seconds_of(file, line, record, "unixReviewTime")


def _described(record: Record) -> ItemDescription:
    title = record.get("title")
    if isinstance(title, str) and "getTime" in title:  # a page's script in place of a title
        title = ""
    paths = record.get("categories")
    names = record.get("category") if paths is None else [name for path in _list(paths) for name in _list(path)]
    attributes = dict.fromkeys(one_line(name, LONGEST_ATTRIBUTE) for name in (record.get("brand"), *_list(names)))
    return ItemDescription(one_line(title, LONGEST_TITLE), tuple(name for name in attributes if name))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []
