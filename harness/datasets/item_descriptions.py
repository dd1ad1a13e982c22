"""What the items of a dataset are, written beside its prepared rows in the columns that `item_text` reads."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass

DESCRIPTIONS = "item_text.csv"
ITEM_ID = "item_id"
COLUMNS = ("title", "attribute_names", "attribute_ids", "idgenrec_keywords")


@dataclass(frozen=True)
class ItemDescription:
    """An item's title, its categories, brand and the like, and IDGenRec's keywords; all may be missing."""

    title: str = ""
    attributes: tuple[str, ...] = ()
    keywords: str = ""


def descriptions_file(items: Sequence[ItemDescription]) -> bytes:
    """Return the file's content: one row an item, ids from 1; attributes are numbered from 1 by their names' order."""
    names = sorted({name for item in items for name in item.attributes})
    number = {name: index for index, name in enumerate(names, start=1)}
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow((ITEM_ID, *COLUMNS))
    for item_id, item in enumerate(items, start=1):
        numbers = " ".join(str(number[name]) for name in item.attributes)
        writer.writerow((item_id, item.title, "|".join(item.attributes), numbers, item.keywords))
    return stream.getvalue().encode("utf-8")


def one_line(text: object, longest: int) -> str:
    """Return a text in one line, cut to this length, without the sign that separates attributes; none for no text.

    A pair of surrogates becomes its character; a lone one, which UTF-8 cannot hold, becomes U+FFFD.
    """
    if not isinstance(text, str):
        return ""
    whole = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return " ".join(whole.replace("|", " ").split())[:longest].strip()
