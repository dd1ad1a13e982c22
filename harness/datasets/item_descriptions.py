"""What the items of a dataset are, written beside its prepared rows in the columns that `item_text` reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

DESCRIPTIONS = "item_text.csv"
ITEM_ID = "item_id"
COLUMNS = ("title", "attribute_names", "attribute_ids", "idgenrec_keywords")
DOMAIN = "domain"
"""A column that only datasets of several domains have."""


@dataclass(frozen=True)
class ItemDescription:
    """An item's title, its categories, brand and the like, and IDGenRec's keywords; all may be missing.

    `domain` names which of several datasets the item is from, where they are put together.
    """

    title: str = ""
    attributes: tuple[str, ...] = ()
    keywords: str = ""
    domain: str = ""


def descriptions_file(items: Sequence[ItemDescription]) -> bytes:
    """Return the file's content: one row an item, ids from 1; attributes are numbered from 1 by their names' order."""
    names = sorted({name for item in items for name in item.attributes})
    number = {name: index for index, name in enumerate(names, start=1)}
    several = any(item.domain for item in items)
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow((ITEM_ID, *COLUMNS, *([DOMAIN] if several else [])))
    for item_id, item in enumerate(items, start=1):
        numbers = " ".join(str(number[name]) for name in item.attributes)
        known = (item.title, "|".join(item.attributes), numbers, item.keywords)
        writer.writerow((item_id, *known, *([item.domain] if several else [])))
    return stream.getvalue().encode("utf-8")


def one_line(text: object, longest: int) -> str:
    """Return a text in one line, cut to this length, without the sign that separates attributes; none for no text.

    A pair of surrogates becomes its character; a lone one, which UTF-8 cannot hold, becomes U+FFFD.
    """
    if not isinstance(text, str):
        return ""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return " ".join(whole.replace("|", " ").split())[:longest].strip()
