"""Amazon 2014's smaller categories under leave-one-out, from the official 5-core reviews (PreferDiff Tables 7 and 9).

PreferDiff's Table 7 counts one user and one item more than the files have: the id that stands for padding, it seems.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from harness.datasets.amazon_reviews import Category, descriptions, read_reviews
from harness.datasets.raw import Dataset, RawFiles
from harness.datasets.sequences import HISTORY_LENGTH, by_user, frequent, leave_one_out, sequence_contents
from harness.datasets.writing import Contents

CORE = 5
COUNTS = {
    "automotive": ("Automotive", 2_928, 1_835, 20_473),
    "instruments": ("Musical_Instruments", 1_429, 900, 10_261),
    "office": ("Office_Products", 4_905, 2_420, 53_258),
}
"""By name: the category, and the users, items and reviews of its 5-core file."""


def parse(files: RawFiles, *, category: Category) -> Contents:
    """Return the contents; ids follow the products' ASINs.

    Raises:
        DataError: a line cannot be read.
    """
    reviews = read_reviews(files[category.reviews])
    sequences = by_user(frequent(reviews, users=CORE, items=CORE))
    rows = [row for row in sequences.rows if len(row) >= CORE]
    return sequence_contents(
        leave_one_out(rows, HISTORY_LENGTH),
        items=len(sequences.item_names),
        users=len(rows),
        facts={"reviews": len(reviews), "interactions": sum(map(len, rows))},
        described_items=descriptions(files, category, sequences.item_names),
    )


def _datasets() -> Iterator[Dataset]:
    for name, (written, users, items, reviews) in COUNTS.items():
        category = Category(f"reviews_{written}_5.json.gz", f"meta_{written}.json.gz", literal=True)
        reviewed, products = category.layouts[1], category.products
        yield Dataset(
            name=f"amazon-{name}-leave-one-out",
            title=f"Amazon 2014 {written.replace('_', ' ')}, leave-one-out",
            kind="sequences",
            folder=f"amazon-2014/{written}",
            source=f"{', '.join(reviewed)}, and {products} for the items' text, of Amazon product data (research use)",
            layouts=category.layouts,
            parse=partial(parse, category=category),
            facts={"reviews": reviews, "users": users, "items": items, "train": users, "interactions": reviews},
            counts_suffice=True,
            tried=False,
        )


DATASETS = tuple(_datasets())
