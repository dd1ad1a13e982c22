"""Amazon 2014 (Beauty, Sports and Toys) with histories of up to 20, 30, 40 or 50 items.

The user split's files end at ten items of history. Their users are those of the full sequences, which have other item
ids; `item_text.csv` joins both, and every example is the end of a sequence. Where several sequences end alike, each is
taken once, in the file's order. Items that are in no example of the user split have no row there (three of Toys): they
take the ids that are left, in ascending order.
"""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from harness.datasets import amazon
from harness.datasets.raw import Dataset, ItemTextFile, KnownFile, RawFile, RawFiles
from harness.datasets.sequences import HISTORY_LENGTH, LONGER_HISTORIES, sequence_contents, with_history
from harness.datasets.writing import Contents

OWN_ID, SEQUENCE_ID = "preferdiff_id", "s3rec_id"


def parse_longer_user_split(files: RawFiles, *, items: int, history_length: int) -> Contents:
    """Return the contents of the user split with longer histories.

    Raises:
        DataError: a line cannot be read, an example is the end of no sequence, or there are fewer ids than items.
    """
    sequences = amazon.read_sequences(files[amazon.SEQUENCES], items)
    own_id = _every_own_id(files[amazon.ITEM_TEXT], {item for sequence in sequences for item in sequence}, items)
    ends: dict[tuple[int, ...], list[list[int]]] = defaultdict(list)
    for sequence in reversed(sequences):
        own = [own_id[item] for item in sequence]
        ends[tuple(own[-HISTORY_LENGTH - 1 :])].append(own)
    examples = {
        split: _longer(files[amazon.USER_SPLIT_FILES[split]], rows, ends, history_length)
        for split, rows in amazon.read_user_split(files, items).items()
    }
    users = sum(map(len, examples.values()))
    return sequence_contents(examples, items=items, users=users, history_length=history_length)


def _longer(
    file: RawFile, rows: Sequence[Sequence[int]], ends: Mapping[tuple[int, ...], list[list[int]]], history_length: int
) -> list[list[int]]:
    found = []
    for line, row in enumerate(rows, start=1):
        alike = ends.get(tuple(row))
        if not alike:
            file.fail(line, f"the end of no sequence in {amazon.SEQUENCES}")
        found.append(alike.pop()[-history_length - 1 :])
    return found


def _every_own_id(file: RawFile, sequence_ids: set[int], items: int) -> dict[int, int]:
    """Return the user split's item id of every id that the sequences have.

    Raises:
        DataError: the file cannot be read, or leaves more items without an id than there are ids.
    """
    own_id = _own_ids(file)
    without = sorted(sequence_ids - own_id.keys())
    left = sorted(set(range(1, items + 1)) - set(own_id.values()))
    if len(without) > len(left):
        file.fail(1, f"{len(without)} items of the sequences have no {OWN_ID}, and only {len(left)} ids are left")
    return own_id | dict(zip(without, left, strict=False))


def _own_ids(file: RawFile) -> dict[int, int]:
    """Return the user split's item id of each id of the sequences.

    Raises:
        DataError: a column is missing or does not hold ids.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(file.data.decode("utf-8"), newline=""), strict=True))
        return {int(row[SEQUENCE_ID]): int(row[OWN_ID]) for row in rows if row[SEQUENCE_ID] and row[OWN_ID]}
    except (csv.Error, UnicodeDecodeError, KeyError, ValueError) as error:
        file.fail(1, f"{OWN_ID} and {SEQUENCE_ID} of every item expected ({error})")


def _longer_user_split(short: Dataset, sequences: Dataset, history_length: int) -> Dataset:
    assert short.item_text is not None
    text: ItemTextFile = short.item_text
    assert isinstance(short.parse, partial)
    layout = {**short.layouts[0], **sequences.layouts[0], text.name: KnownFile(0, (text.sha256,))}
    return replace(
        short,
        name=with_history(short.name, history_length),
        title=f"{short.title}, up to {history_length} items of history",
        source=f"{amazon.SPLIT_SOURCE}, {amazon.SEQUENCES} and {text.name}",
        layouts=(layout,),
        parse=partial(parse_longer_user_split, **short.parse.keywords, history_length=history_length),
        version=short.version + 1,
        facts={name: count for name, count in short.facts.items() if name != "items_that_occur"},
    )


def _longer_leave_one_out(short: Dataset, history_length: int) -> Dataset:
    assert isinstance(short.parse, partial)
    return replace(
        short,
        name=with_history(short.name, history_length),
        title=f"{short.title}, up to {history_length} items of history",
        parse=partial(amazon.parse_leave_one_out, **short.parse.keywords, history_length=history_length),
    )


def _all() -> tuple[Dataset, ...]:
    pairs = zip(amazon.DATASETS[::2], amazon.DATASETS[1::2], strict=True)
    return tuple(
        longer
        for user_split, leave_one_out in pairs
        for length in LONGER_HISTORIES
        for longer in (
            _longer_user_split(user_split, leave_one_out, length),
            _longer_leave_one_out(leave_one_out, length),
        )
    )


DATASETS = _all()
