"""Ids in the numeric order of the raw values, by tasks that each see one range of values.

A partition sends its distinct values, cut into ranges; the task of a range ranks all that it is sent and answers each
partition; a partition puts the answers of all ranges together. For users the task of a range joins their profiles too.

Legend: V values of a partition, D distinct ones, K partitions, P ranges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.large.description import Profiles
from harness.datasets.large.formats import Columns, narrow
from harness.datasets.large.partitions import joined, split_columns

Bounds = Mapping[str, NDArray[np.int64]]
"""Of each field, where its ranges begin, the first one's left out."""


@dataclass(frozen=True)
class UserReport:
    """What a range of users holds: how many, and the distinct values of each of their fields."""

    users: int
    values: Mapping[str, NDArray[np.int64]]


def send_values(items: Columns, bounds: Bounds, ranges: int) -> list[dict[str, NDArray[Any]]]:
    """Return the distinct values of every field in each range."""
    sent: list[dict[str, NDArray[Any]]] = [{} for _ in range(ranges)]
    for name, bound in bounds.items():
        value_D = np.unique(items[name])
        for piece, part in zip(sent, split_columns({"value": value_D}, value_D, bound), strict=False):
            piece[name] = part["value"]
    return sent


def rank_values(*sent: Mapping[str, NDArray[Any]]) -> list[Any]:
    """Return the number of distinct values of each field in this range, and for each partition their ranks."""
    known = {name: np.unique(np.concatenate([piece[name] for piece in sent])) for name in sent[0]}
    ranks = [{name: np.searchsorted(known[name], piece[name]).astype(np.int32) for name in known} for piece in sent]
    return [{name: len(values) for name, values in known.items()}, *ranks]


def ids_of(value_V: NDArray[Any], answers: Sequence[NDArray[np.int32]], sizes: Sequence[int]) -> NDArray[np.int32]:
    """Return the ids of values, int32 [V], from the ranks and the sizes of the field's ranges, in their order."""
    first = np.cumsum([0, *sizes])
    id_D = np.concatenate([ranks + start for ranks, start in zip(answers, first[:-1], strict=True)])
    _, place_V = np.unique(value_V, return_inverse=True)
    return id_D[place_V].astype(np.int32)


def join_users(profiles: Profiles, partitions: int, *pieces: Any) -> list[Any]:
    """Put a range of users together: the first pieces are the users that each partition sent, the others profiles."""
    user_V = np.unique(np.concatenate(pieces[:partitions]))
    fields = joined(user_V, profiles, pieces[partitions:])
    report = UserReport(len(user_V), {name: np.unique(fields[name]) for name in profiles.categories})
    return [report, {"user": user_V, **fields}]


def answer_users(
    users: Columns, first_id: int, values: Mapping[str, NDArray[np.int64]], *sent: NDArray[Any]
) -> list[dict[str, NDArray[Any]]]:
    """Return to each partition the ids and the encoded fields of the users that it sent.

    `values` are the distinct values of each field over all users, and `first_id` the id of this range's first user.
    """
    codes = {name: narrow(np.searchsorted(known, users[name])) for name, known in values.items()}
    answers = []
    for user_D in sent:
        place_D = np.searchsorted(users["user"], user_D)
        answer = {name: code[place_D] for name, code in codes.items()}
        answers.append({"user_id": (place_D + first_id).astype(np.int32), **answer})
    return answers
