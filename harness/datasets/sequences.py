"""From interactions to next-item examples: filters, the order of time, user split and leave-one-out.

Legend: R interactions or examples, L positions of a history, N names.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.prepared import SplitSchema
from harness.datasets.writing import Contents
from harness.specs import LONGER

HISTORY_LENGTH = 10
LONGER_HISTORIES = (20, 30, 40, 50)
"""The other lengths of PreferDiff's Tables 15 and 16."""

TARGETS_FROM_END = {"train": 3, "validation": 2, "test": 1}
USER_SPLIT_SEED = 2024

Examples = Mapping[str, Sequence[Sequence[int]]]
"""By split: the items of each history and, last, its target."""


@dataclass(frozen=True)
class Interactions:
    """Who took what and when: int64 [R] each; `item_R` are indices of `item_names`, `user_R` any numbers."""

    user_R: NDArray[np.int64]
    item_R: NDArray[np.int64]
    time_R: NDArray[np.int64]
    item_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.user_R)

    @property
    def users(self) -> int:
        """The number of users that occur."""
        return len(np.unique(self.user_R))


@dataclass(frozen=True)
class Sequences:
    """Each user's items in the order of time, ids from 1; `item_names` of ids 1, 2, …"""

    rows: Sequence[Sequence[int]]
    item_names: Sequence[str]


def collected(rows: Iterable[tuple[str, str, int]]) -> Interactions:
    """Return interactions given as user, item and time; users and items are numbered as they come."""
    user_of: dict[str, int] = {}
    item_of: dict[str, int] = {}
    user_R, item_R, time_R = array("q"), array("q"), array("q")
    for user, item, time in rows:
        user_R.append(user_of.setdefault(user, len(user_of)))
        item_R.append(item_of.setdefault(item, len(item_of)))
        time_R.append(time)
    user_index_R, item_index_R, seconds_R = (np.frombuffer(one, dtype=np.int64) for one in (user_R, item_R, time_R))
    return Interactions(user_index_R, item_index_R, seconds_R, tuple(item_of))


def frequent(interactions: Interactions, *, users: int = 1, items: int = 1) -> Interactions:
    """Return what is left of users and items with at least so many interactions, all counted before any is left out."""
    enough_R = _occurrences(interactions.user_R) >= users
    enough_R &= _occurrences(interactions.item_R) >= items
    return replace(
        interactions,
        user_R=interactions.user_R[enough_R],
        item_R=interactions.item_R[enough_R],
        time_R=interactions.time_R[enough_R],
    )


def by_user(interactions: Interactions) -> Sequences:
    """Return the sequences of all users with two interactions or more.

    Equal times keep their order. Ids follow the sorted names of the items that occur.
    """
    of_user_R = np.argsort(interactions.user_R, kind="stable")
    order_R = of_user_R[np.lexsort((interactions.time_R[of_user_R], interactions.user_R[of_user_R]))]
    user_R = interactions.user_R[order_R]
    kept_R = order_R[_occurrences(user_R) >= 2]
    index_N, position_R = np.unique(interactions.item_R[kept_R], return_inverse=True)
    names = [interactions.item_names[index] for index in index_N.tolist()]
    alphabetical_N = np.argsort(np.array(names, dtype=object), kind="stable")
    id_N = np.empty(len(names), dtype=np.int64)
    id_N[alphabetical_N] = np.arange(1, len(names) + 1)
    starts = np.flatnonzero(np.diff(interactions.user_R[kept_R])) + 1
    rows = [part.tolist() for part in np.split(id_N[position_R], starts)] if len(kept_R) else []
    return Sequences(rows, [names[index] for index in alphabetical_N.tolist()])


def user_split(sequences: Sequence[Sequence[int]], history_length: int) -> Examples:
    """Split users at random 8:1:1, one example each: the last item after up to `history_length` before it.

    The authors' own files have their users in no order either. Source: PreferDiff §4.1.
    """
    order = np.random.default_rng(USER_SPLIT_SEED).permutation(len(sequences)).tolist()
    train, validation = len(order) * 8 // 10, len(order) // 10
    cuts = {"train": order[:train], "validation": order[train : train + validation]}
    cuts["test"] = order[train + validation :]
    return {split: [sequences[user][-history_length - 1 :] for user in users] for split, users in cuts.items()}


def with_history(name: str, history_length: int) -> str:
    """Return a dataset's name with its length of history, where that is not the usual one."""
    return name if history_length == HISTORY_LENGTH else f"{name}{LONGER}{history_length}"


def leave_one_out(sequences: Sequence[Sequence[int]], history_length: int) -> Examples:
    """Return every user's last item as the test's target, the one before as the validation's, then the training's.

    Each comes after up to `history_length` items; a sequence has at least 4. Of the training part, then, no more than
    its last items are kept, where PreferDiff D.4 has all of it for training.
    """
    return {
        split: [sequence[: len(sequence) - back + 1][-history_length - 1 :] for sequence in sequences]
        for split, back in TARGETS_FROM_END.items()
    }


def sequence_contents(
    examples: Examples, *, items: int, users: int, history_length: int = HISTORY_LENGTH, **described: Any
) -> Contents:
    """Return the contents of a next-item dataset; `described` are further fields of `Contents`, facts on top of these.

    `interactions` are those of histories and targets.
    """
    facts = {
        "interactions": sum(len(row) for rows in examples.values() for row in rows),
        "items_that_occur": len({item for rows in examples.values() for row in rows for item in row}),
    }
    return Contents(
        kind="sequences",
        tables={split: _table(rows, history_length) for split, rows in examples.items()},
        splits={split: SplitSchema(rows=len(rows), search=split != "test") for split, rows in examples.items()},
        items=items,
        users=users,
        history_length=history_length,
        facts=facts | described.pop("facts", {}),
        **described,
    )


def _table(rows: Sequence[Sequence[int]], history_length: int) -> dict[str, NDArray[Any]]:
    history_RL = np.zeros((len(rows), history_length), dtype=np.int32)
    for index, row in enumerate(rows):
        history_RL[index, : len(row) - 1] = row[:-1]
    return {
        "history": history_RL,
        "length": np.array([len(row) - 1 for row in rows], dtype=np.int32),
        "target": np.array([row[-1] for row in rows], dtype=np.int32),
    }


def _occurrences(value_R: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how often each value occurs, for each of its places."""
    _, index_R, count_N = np.unique(value_R, return_inverse=True, return_counts=True)
    return np.asarray(count_N[index_R])
