"""Amazon 2014's Beauty and Sports together, PreferDiff's user split: one training set to pretrain on.

Each category has the split that it has for itself; early stopping sees the validation users of both. Items keep apart:
their ids follow the categories, in them the category's own ids. Their text is part of the dataset, with the titles,
names and keywords of the categories' own files, since all that is pretrained on several categories reads text. Brands
and categories are numbered anew by name; those without a name are left out. The category is each item's domain.

Source: PreferDiff D.5 pretrains so, on categories of Amazon 2018 (`amazon_2018`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath

from harness.datasets import amazon
from harness.datasets.item_descriptions import ItemDescription
from harness.datasets.item_text import read_items
from harness.datasets.raw import Dataset, ItemTextFile, KnownFile, RawFile, RawFiles
from harness.datasets.sequences import sequence_contents
from harness.datasets.writing import Contents


@dataclass(frozen=True)
class Part:
    """A category: its folder beside the others', its number of items, and its file of item text."""

    folder: str
    items: int
    item_text: ItemTextFile

    def file(self, name: str) -> str:
        """Return the path of one of its files."""
        return f"{self.folder}/{name}"


def parse_together(files: RawFiles, *, parts: Sequence[Part]) -> Contents:
    """Return the contents of some categories together.

    Raises:
        DataError: a line cannot be read.
    """
    examples: dict[str, list[list[int]]] = {split: [] for split in amazon.USER_SPLIT_FILES}
    described: list[ItemDescription] = []
    for part in parts:
        before = len(described)
        own = {name: files[part.file(name)] for name in amazon.USER_SPLIT_FILES.values()}
        for split, rows in amazon.read_user_split(own, part.items).items():
            examples[split] += [[before + item for item in row] for row in rows]
        described += _descriptions(files[part.file(part.item_text.name)], part)
    users = sum(map(len, examples.values()))
    return sequence_contents(examples, items=len(described), users=users, described_items=described)


def _descriptions(file: RawFile, part: Part) -> list[ItemDescription]:
    return [_description(row, part.folder) for row in read_items(file, part.item_text, part.items)]


def _description(row: Mapping[str, str], domain: str) -> ItemDescription:
    names = tuple(name for name in row["attribute_names"].split("|") if name)
    return ItemDescription(row["title"], names, row["idgenrec_keywords"], domain)


def _together(*categories: str) -> Dataset:
    """Return the dataset of these categories of Amazon 2014 together."""
    known = {dataset.name: dataset for dataset in amazon.DATASETS}
    singles = [known[f"amazon-{category}"] for category in categories]
    layout: dict[str, KnownFile] = {}
    parts = []
    for single in singles:
        assert single.item_text is not None
        assert isinstance(single.parse, partial)
        part = Part(PurePosixPath(single.folder).name, single.parse.keywords["items"], single.item_text)
        layout |= {part.file(name): known_file for name, known_file in single.layouts[0].items()}
        layout[part.file(part.item_text.name)] = KnownFile(part.items + 1, (part.item_text.sha256,))
        parts.append(part)
    folders = " and ".join(part.folder.replace("_", " ") for part in parts)
    return Dataset(
        name=f"amazon-{'-'.join(categories)}",
        title=f"Amazon 2014 {folders} together, PreferDiff's user split 8:1:1",
        kind="sequences",
        folder="amazon-2014",
        source=f"{', '.join(layout)} (PreferDiff's release, and the items' text; {amazon.TERMS})",
        layouts=(layout,),
        parse=partial(parse_together, parts=tuple(parts)),
        version=2,
        facts={name: sum(single.facts[name] for single in singles) for name in singles[0].facts},
    )


DATASETS = (_together("beauty", "sports"),)
