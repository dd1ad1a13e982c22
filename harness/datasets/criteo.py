"""Criteo's display advertising challenge (Kaggle 2014): 13 integers and 26 hashed categories, and a sample of it.

Tab-separated, without a header: the label, I1 … I13, C1 … C26; anything but the label may be empty. The rows are in the
order of time, over seven days, without a time of their own.

Integers become categories: above 2, ⌊ln² x⌋ (the challenge's winners), else themselves; missing is a value of its own.
Values that occur fewer than ten times are one (as in BARS' Criteo_x4). No column is named an item; the backbones need
one to be, and C3, the category of most values, is it.
"""

from __future__ import annotations

import math

import numpy as np

from harness.datasets.click_logs import encode_texts, labels, read_log
from harness.datasets.click_split import click_contents
from harness.datasets.raw import Dataset, KnownFile, RawFiles
from harness.datasets.writing import Contents
from harness.errors import DataError

INTEGERS = tuple(f"I{number}" for number in range(1, 14))
CATEGORIES = ("C1", "C3", "C2", *(f"C{number}" for number in range(4, 27)))
"""C3 stands second, where a click dataset has its items."""
ITEM = "C3"
COLUMNS = ("label", *INTEGERS, *(f"C{number}" for number in range(1, 27)))
AT_LEAST = 10

LAYOUT = {"train.txt": KnownFile(45_840_617)}
SAMPLE_LAYOUT = {
    "train.csv": KnownFile(7_200, ("2b0614035f6c931dc4ac2c1a1a26fa954f2b9231703f3a77bcdd53d9d9f29872",)),
    "dev.csv": KnownFile(409, ("7ac8a164e43a9903be3d43e640bcd464cfa0d96d7a652ec8ef8a33fe97cac6b9",)),
    "test.csv": KnownFile(391, ("3a7a78b694945482aede520e68300b0e2748603363072822cfbbb9f72d0dfd9a",)),
}


def parse(files: RawFiles) -> Contents:
    """Return the contents; several files are taken one after the other.

    Raises:
        DataError: a line cannot be read.
    """
    names = ", ".join(files)
    log = read_log(list(files.values()), COLUMNS, "\t", headers=[False] * len(files))
    label_R = labels(names, log["label"])
    categories = [
        encode_texts(name, "item_id" if name == ITEM else "context", log[name], at_least=AT_LEAST)
        for name in CATEGORIES
    ]
    integers = [encode_texts(name, "context", log[name], at_least=AT_LEAST, meaning=magnitude) for name in INTEGERS]
    return click_contents(row_columns=(*categories, *integers), time_R=np.arange(len(label_R)), label_R=label_R)


def magnitude(text: str) -> str:
    """Return what stands for an integer: ⌊ln² x⌋ above 2, else the number itself; an empty text stays empty.

    Raises:
        DataError: it is no integer.
    """
    if not text:
        return text
    try:
        number = int(text)
    except ValueError:
        raise DataError(f"criteo: {text!r:.40} in one of I1 … I13, an integer expected") from None
    return f"ln²{math.floor(math.log(number) ** 2)}" if number > 2 else str(number)


DATASETS = (
    Dataset(
        name="criteo",
        title="Criteo display advertising challenge, by time or at random 8:1:1",
        kind="interactions",
        folder="criteo",
        source="train.txt of Criteo's dac.tar.gz (its terms: research use)",
        layouts=(LAYOUT,),
        parse=parse,
        facts={"rows": 45_840_617},
        counts_suffice=True,
    ),
    Dataset(
        name="criteo-sample",
        title="8,000 rows of Criteo, to try a method out",
        kind="interactions",
        folder="criteo-sample",
        source="train.csv, dev.csv and test.csv with 8,000 rows of Criteo's train.txt (research use)",
        layouts=(SAMPLE_LAYOUT,),
        parse=parse,
        facts={"rows": 8_000},
    ),
)
