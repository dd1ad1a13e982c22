"""Amazon 2018 (Ni et al. 2019), users split 8:1:1: what PreferDiff's zero-shot tables are pretrained and tested on.

Items with fewer than 20 reviews are left out, then users with fewer than 5 of the others, and a history is cut to 10
items (PreferDiff D.1). The printed numbers of sequences are those of all users of the 5-core files, so not of this
filter's result. The printed interactions come to fewer than 5 of these a sequence; by the printed average lengths they
are those of 53 to 68 % of the sequences, so that both may be of the filter's result.

`amazon-2018-pretraining` has five categories together, each split for itself, with items of its own; early stopping
sees their validation users, where the paper takes another category's. Datasets of the first two, three and four of
these, `amazon-2018-automotive-phones` and so on, are the scales of pretraining of PreferDiff's Figure 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from harness.datasets.amazon_reviews import Category, descriptions, filtered, read_reviews
from harness.datasets.item_descriptions import ItemDescription
from harness.datasets.raw import Dataset, RawFiles
from harness.datasets.sequences import HISTORY_LENGTH, sequence_contents, user_split
from harness.datasets.writing import Contents

REVIEWS_OF_AN_ITEM = 20
REVIEWS_OF_A_USER = 5

CATEGORIES = {
    "automotive": "Automotive",
    "phones": "Cell_Phones_and_Accessories",
    "tools": "Tools_and_Home_Improvement",
    "instruments": "Musical_Instruments",
    "food": "Grocery_and_Gourmet_Food",
    "office": "Office_Products",
    "cds": "CDs_and_Vinyl",
    "movies": "Movies_and_TV",
}
PRETRAINING = ("automotive", "phones", "tools", "instruments", "food")
"""In the order of PreferDiff's Table 10."""
REVIEWS = {
    "automotive": 1_711_519,
    "phones": 1_128_437,
    "tools": 2_070_831,
    "instruments": 231_392,
    "food": 1_143_860,
    "office": 800_357,
    "cds": 1_443_755,
    "movies": 3_410_019,
}
"""Of the 5-core files, as their authors say."""
REVIEWERS = {"automotive": 193_651, "phones": 157_212, "tools": 240_799, "instruments": 27_530, "food": 127_496}
"""The sequences of PreferDiff's Table 10, which are the users of the 5-core files."""


def category(name: str) -> Category:
    """Return the files of a category."""
    return Category(f"{CATEGORIES[name]}_5.json.gz", f"meta_{CATEGORIES[name]}.json.gz")


def parse(files: RawFiles, *, names: tuple[str, ...]) -> Contents:
    """Return the contents of some categories together; ids follow the categories, in them the products' ASINs.

    Of several, each is a domain of its items.

    Raises:
        DataError: a line cannot be read.
    """
    examples: dict[str, list[list[int]]] = {"train": [], "validation": [], "test": []}
    described: list[ItemDescription] = []
    facts = {"reviews": 0, "reviewers": 0}
    items = users = 0
    for name in names:
        reviews = read_reviews(files[category(name).reviews])
        sequences = filtered(reviews, users=REVIEWS_OF_A_USER, items=REVIEWS_OF_AN_ITEM)
        facts["reviews"] += len(reviews)
        facts["reviewers"] += reviews.users
        for split, rows in user_split(sequences.rows, HISTORY_LENGTH).items():
            examples[split] += [[items + item for item in row] for row in rows]
        domain = CATEGORIES[name] if len(names) > 1 else ""
        known = descriptions(files, category(name), sequences.item_names)
        described += [replace(item, domain=domain) for item in known]
        items += len(sequences.item_names)
        users += len(sequences.rows)
    return sequence_contents(examples, items=items, users=users, facts=facts, described_items=described)


def _dataset(name: str, names: tuple[str, ...], title: str) -> Dataset:
    facts = {"reviews": sum(REVIEWS[one] for one in names)}
    if set(names) <= set(REVIEWERS):
        facts["reviewers"] = sum(REVIEWERS[one] for one in names)
    layouts = [category(one).layouts for one in names]
    files = ", ".join(file for _, reviews in layouts for file in reviews)
    return Dataset(
        name=f"amazon-2018-{name}",
        title=f"Amazon 2018 {title}, users split 8:1:1",
        kind="sequences",
        folder="amazon-2018",
        source=f"{files}, and meta_… for the items' text, of Amazon Review Data 2018 (research use)",
        layouts=tuple(
            {file: known for layout in which for file, known in layout.items()} for which in zip(*layouts, strict=True)
        ),
        parse=partial(parse, names=names),
        version=1 if len(names) == 1 else 2,
        facts=facts,
        counts_suffice=True,
        tried=False,
    )


def _datasets() -> Iterator[Dataset]:
    for name, written in CATEGORIES.items():
        yield _dataset(name, (name,), written.replace("_", " "))
    for count in range(2, len(PRETRAINING)):
        names = PRETRAINING[:count]
        titles = [CATEGORIES[name].replace("_", " ") for name in names]
        yield _dataset("-".join(names), names, f"{', '.join(titles[:-1])} and {titles[-1]} together")
    yield _dataset("pretraining", PRETRAINING, "pretraining on five categories")


DATASETS = tuple(_datasets())
