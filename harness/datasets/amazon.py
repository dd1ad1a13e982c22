"""Amazon 2014 (5-core Beauty, Sports and Toys): PreferDiff's user split, and leave-one-out.

User split (PreferDiff §4.1, the authors' own files): users are split 8:1:1, one example a user, up to 10 items and the
next. Leave-one-out, from the full sequences: a user's last item is the test's target, the one before it the
validation's, the one before that the training's, each after up to 10 items; prefixes give no further examples.
Item ids start at 1 and differ between the two. A search may read train and validation.

With longer histories, 20 … 50 items: leave-one-out cuts the same sequences later; of the user split, whose files end at
10 items, every example is found at the end of a full sequence (`amazon_longer`).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from harness.datasets.raw import INTEGER_DIGITS, Dataset, ItemTextFile, KnownFile, RawFile, RawFiles, is_integer
from harness.datasets.sequences import HISTORY_LENGTH, leave_one_out, sequence_contents
from harness.datasets.writing import Contents

USER_SPLIT_FILES = {
    "train": "user_split/train_data.txt",
    "validation": "user_split/valid_data.txt",
    "test": "user_split/test_data.txt",
}
SEQUENCES = "sequences.txt"
ITEM_TEXT = "item_text.csv"
TERMS = "research use, no licence stated"
SPLIT_SOURCE = f"{', '.join(USER_SPLIT_FILES.values())} of PreferDiff's release ({TERMS})"
TEXT_SOURCE = (
    f"{ITEM_TEXT} for methods that read item text (a row an item: preferdiff_id, s3rec_id, title, attribute_names,"
    " attribute_ids, idgenrec_keywords)"
)


def parse_user_split(files: RawFiles, *, items: int) -> Contents:
    """Return the contents of the user split; every line holds 1 to 10 history items and the target.

    Raises:
        DataError: a line cannot be read.
    """
    examples = read_user_split(files, items)
    return sequence_contents(examples, items=items, users=sum(map(len, examples.values())))


def parse_leave_one_out(files: RawFiles, *, items: int, history_length: int = HISTORY_LENGTH) -> Contents:
    """Return the contents of leave-one-out; every line holds a user and at least 4 items in the order of time.

    Raises:
        DataError: a line cannot be read, or a user has two lines.
    """
    sequences = read_sequences(files[SEQUENCES], items)
    facts = {
        "interactions": sum(map(len, sequences)),
        "items_that_occur": len({item for row in sequences for item in row}),
    }
    examples = leave_one_out(sequences, history_length)
    return sequence_contents(examples, items=items, users=len(sequences), history_length=history_length, facts=facts)


def read_user_split(files: RawFiles, items: int) -> dict[str, list[list[int]]]:
    """Return the lines of the user split's files.

    Raises:
        DataError: a line cannot be read.
    """
    examples = {split: _lines_of_items(files[name], items) for split, name in USER_SPLIT_FILES.items()}
    for split, name in USER_SPLIT_FILES.items():
        for line, sequence in enumerate(examples[split], start=1):
            if not 2 <= len(sequence) <= HISTORY_LENGTH + 1:
                files[name].fail(line, f"{len(sequence)} items, 2 to {HISTORY_LENGTH + 1} expected (history, target)")
    return examples


def read_sequences(file: RawFile, items: int) -> list[list[int]]:
    """Return each user's items in the order of time.

    Raises:
        DataError: a line cannot be read, or a user has two lines.
    """
    seen: set[int] = set()
    sequences = []
    for line, (user, *sequence) in enumerate(_lines_of_items(file, items, first_is_user=True), start=1):
        if user in seen:
            file.fail(line, f"user {user} again; one line a user expected")
        if len(sequence) < 4:
            file.fail(line, f"{len(sequence)} items after the user, at least 4 expected (history, three targets)")
        seen.add(user)
        sequences.append(sequence)
    return sequences


def _lines_of_items(file: RawFile, items: int, *, first_is_user: bool = False) -> list[list[int]]:
    """Return the numbers of every line, checked: a user where there is one, then items of 1 … `items`."""
    rows = []
    for line, text in enumerate(file.data.removesuffix(b"\n").split(b"\n"), start=1):
        words = text.split()
        if not words:
            file.fail(line, "empty, item ids separated by spaces expected")
        for word in words:
            if not is_integer(word):
                shown = repr(word.decode(errors="replace"))
                file.fail(line, f"{shown:.40}, an integer expected, of {INTEGER_DIGITS} digits at most")
        row = [int(word) for word in words]
        checked = row[1:] if first_is_user else row
        wrong = [item for item in checked if not 1 <= item <= items]
        if wrong:
            file.fail(line, f"item {wrong[0]}, 1 to {items:,} expected")
        rows.append(row)
    return rows


def _pair(
    name: str,
    folder: str,
    *,
    items: int,
    occurring: int,
    interactions: int,
    lines: tuple[int, int, int],
    sha256: Sequence[str],
    item_text: str,
) -> tuple[Dataset, Dataset]:
    """Return a category's user split and leave-one-out.

    `sha256` of train, validation, test and sequences; `item_text` of the items' text.
    """
    users = sum(lines)
    *split_hashes, sequences_hash = sha256
    user_split = Dataset(
        name=f"amazon-{name}",
        title=f"Amazon 2014 {folder.replace('_', ' ')}, PreferDiff's user split 8:1:1",
        kind="sequences",
        folder=f"amazon-2014/{folder}",
        source=f"{SPLIT_SOURCE}, and {TEXT_SOURCE}",
        layouts=(
            {
                file: KnownFile(count, (known,))
                for file, count, known in zip(USER_SPLIT_FILES.values(), lines, split_hashes, strict=True)
            },
        ),
        parse=partial(parse_user_split, items=items),
        facts={
            "users": users,
            "items_that_occur": occurring,
            **dict(zip(("train", "validation", "test"), lines, strict=True)),
        },
        item_text=ItemTextFile(ITEM_TEXT, id_column="preferdiff_id", sha256=item_text),
    )
    leave_one_out = Dataset(
        name=f"amazon-{name}-leave-one-out",
        title=f"Amazon 2014 {folder.replace('_', ' ')}, leave-one-out",
        kind="sequences",
        folder=f"amazon-2014/{folder}",
        source=f"{SEQUENCES} ('user item item …' in the order of time, 5-core; {TERMS}), and {TEXT_SOURCE}",
        layouts=({SEQUENCES: KnownFile(users, (sequences_hash,))},),
        parse=partial(parse_leave_one_out, items=items),
        facts={"users": users, "interactions": interactions, "train": users, "validation": users, "test": users},
        item_text=ItemTextFile(ITEM_TEXT, id_column="s3rec_id", sha256=item_text),
    )
    return user_split, leave_one_out


DATASETS = (
    *_pair(
        "beauty",
        "Beauty",
        items=12_101,
        occurring=12_101,
        interactions=198_502,
        lines=(17_890, 2_236, 2_237),
        sha256=(
            "8178d83653b065faa2531d607fcd772d7f30dfb3178443d81431aa2731ab81c0",
            "73c76eac11d048bdf8f0906268c16298a66e87a081c53ae140716444aba11da9",
            "5eb544d43d8e9ec51f921e6385f359badc8e7fc548a637a70d1c9b14714c506a",
            "226cce9c3105299ca0db9615d7d3fb32b3175e90da43100ae352599f0f0107b8",
        ),
        item_text="95d3ad8b785962330f1073e6e024b57b13790e09f84b26b7ed2870f7aab33b57",
    ),
    *_pair(
        "sports",
        "Sports_and_Outdoors",
        items=18_357,
        occurring=18_357,
        interactions=296_337,
        lines=(28_478, 3_559, 3_561),
        sha256=(
            "981b8747eb167ad75bacbcc29f9fa96db3d32a27fc9c8d8bbd4f6b32122aafb3",
            "f5ebe96a94dfe24773f6622ae18c6551bf91f2df66180c4ebeceb6cd037eb24d",
            "a8b7e1df43aa8648906f9c52854d49bf06e940d2218dd3b1b0ecbe5f1603d230",
            "2a095e0648872beb9982408958290f5d655db5be2911c3756b5446de9f0b8de2",
        ),
        item_text="98e9931058ade5b2c4c5296c043c5709059d027128d3d19db2a2fadae0af2305",
    ),
    *_pair(
        "toys",
        "Toys_and_Games",
        items=11_924,
        occurring=11_921,
        interactions=167_597,
        lines=(15_529, 1_941, 1_942),
        sha256=(
            "849e00bcc19277e2f20230ea97e345a00f967546d9c5af007ef0a29c45c14dcd",
            "097e80eee8a3380002ad2c3c63695709f7fe947f0b5cc6d6dd750e73f515a28f",
            "43c780a64aac22d364059217fd3621504b77a51e50122e583137a0af800cfcd7",
            "176c680c688d497598c4a89a03b402c0fe78d795e5db335c2e78dd5f2d778a3f",
        ),
        item_text="3ed74bf4d8f0be1caa808a0638bf8d3268be34fa642faf098a9c52280f106e1b",
    ),
)
