"""The last step of a partition: its rows with the fields of their users and items, dealt to the files to be written.

Legend: R rows of a partition, I items, E groups of four rows, A atoms, C columns of a packed row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.large.atoms import OUT, Atom, Atoms, split_counts
from harness.datasets.large.description import LargeDataset
from harness.datasets.large.formats import Columns, narrow
from harness.datasets.large.partitions import hour_or_weekday, log_amount, split_by
from harness.datasets.large.row_numbers import SHUFFLE, hash_rows, slices
from harness.datasets.large.vocabularies import ids_of
from harness.datasets.parts import PARTS, QUARTERS, ROWS_OF_PART
from harness.datasets.prepared import FieldSchema
from trainables.base import FieldRole

HASH = "hash"
"""The column that orders the rows of a file."""
LABEL = "label"


@dataclass(frozen=True)
class Whole:
    """What all partitions have to know of the whole.

    Attributes:
        dataset: the dataset.
        atoms: its atoms.
        sizes: of each category of items, the distinct values of each range.
        fields: the schema's fields, in their order.
        times: the first and the last time.
        largest_count: the rows of the most frequent item.
        amounts: of each amount, the smallest and the largest logarithm.
        hours: the hours and the weekdays that occur, ascending; none where they are no fields.
    """

    dataset: LargeDataset
    atoms: Atoms
    sizes: Mapping[str, Sequence[int]]
    fields: tuple[FieldSchema, ...]
    times: tuple[int, int]
    largest_count: int
    amounts: Mapping[str, tuple[float, float] | None]
    hours: Mapping[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Output:
    """A file to be written: the rows of a slice of the hashes of an atom, or of the quarters of a split."""

    path: str
    atom: int
    number: int
    of: int
    quarters: str = ""


def outputs_of(atoms: Atoms) -> list[Output]:
    """Return all files of rows. How many an atom has follows from its number of rows alone."""
    found = []
    for place, atom in enumerate(atoms.atoms):
        parts = parts_for(atom.rows, ROWS_OF_PART)
        found += [Output(f"{PARTS}/{atom.name}/{_file(n)}", place, n, parts) for n in range(parts)]
    for split, groups in atoms.quarters.items():
        parts = parts_for(groups, ROWS_OF_PART // 4)
        found += [Output(f"{QUARTERS}/{split}/{_file(n)}", OUT, n, parts, split) for n in range(parts)]
    return found


def parts_for(rows: int, most: int) -> int:
    """Return into how many slices of hashes this many rows are cut, so that none has more than `most`.

    A slice's share is even up to chance: ten standard deviations are left, and as much for a number that is itself
    expected.
    """
    parts = 1
    while rows / parts + 20 * (rows / parts) ** 0.5 > most:
        parts += 1
    return parts if rows else 0


def encode_items(
    items: Columns, answers: Sequence[Mapping[str, NDArray[np.int32]]], first_item: int, whole: Whole
) -> dict[str, NDArray[Any]]:
    """Return the item fields of the schema, row i for the partition's item i: int32 [I] or float32 [I]."""
    values: dict[str, NDArray[Any]] = {"item_id": np.arange(first_item, first_item + len(items["item"]))}
    values["count"] = items["count"] / whole.largest_count
    for name in whole.dataset.items.categories:
        own = [answer[name] for answer in answers if name in answer]
        values[name] = ids_of(items[name], own, whole.sizes[name])
    for name in whole.dataset.items.amounts:
        low, high = whole.amounts[name] or (0.0, 0.0)
        values[name] = np.nan_to_num(_scaled(log_amount(items[name]), low, high))
    return {
        field.name: values[field.name].astype(np.float32 if field.kind == "number" else np.int32)
        for field in whole.fields
        if field.role in ("item", "item_id")
    }


def encode_rows(
    rows: Columns,
    kept: NDArray[np.int64],
    items: Columns,
    users: Columns,
    whole: Whole,
) -> dict[str, NDArray[Any]]:
    """Return all fields of the schema and the label of some rows, in narrow types; numbers are float32."""
    item_R, user_R, time_R = rows["item"][kept], rows["user"][kept], rows["time"][kept].astype(np.int64)
    own: dict[str, NDArray[Any]] = {name: rows[name][kept] for name in whole.dataset.context}
    low, high = whole.times
    own["timestamp"] = _scaled(time_R.astype(np.float64), low, high).astype(np.float32)
    for name, known in whole.hours.items():
        own[name] = narrow(np.searchsorted(known, hour_or_weekday(name, time_R)))
    columns = {}
    for field in whole.fields:
        if field.role in ("item", "item_id"):
            columns[field.name] = items[field.name][item_R]
        elif field.role in ("user", "user_id"):
            columns[field.name] = users[field.name][user_R]
        else:
            columns[field.name] = own[field.name]
        if field.kind == "category" and field.size <= 1 << 15:
            columns[field.name] = columns[field.name].astype(np.int16 if field.size > 1 << 7 else np.int8)
    return {**columns, LABEL: rows[LABEL][kept]}


def pack_rows(
    whole: Whole,
    first_item: int,
    ranges: int,
    rows: Columns,
    items: Columns,
    *answers: Any,
) -> list[Any]:
    """Deal the rows of a partition to the files.

    Args:
        whole: what all partitions know.
        first_item: the id of the partition's first item.
        ranges: how many of the answers are of ranges of users; the others are of ranges of the items' categories.
        rows: the partition's rows, sorted by item and time.
        items: its items.
        answers: see `vocabularies`.

    Returns:
        The columns of `items.parquet` for its items, and a piece for each of the outputs.
    """
    atom_R = whole.atoms.of_rows(rows)
    encoded = encode_items(items, answers[ranges:], first_item, whole)
    users = {name: np.concatenate([answer[name] for answer in answers[:ranges]]) for name in answers[0]}
    counts = split_counts(whole.atoms, rows["item"], atom_R, len(items["item"]))
    table = {**{name: values for name, values in encoded.items() if name != "item_id"}, **counts}
    outputs = outputs_of(whole.atoms)
    hash_R = hash_rows(rows["row"], SHUFFLE)
    kept = np.flatnonzero(atom_R != OUT)
    columns = encode_rows(rows, kept, encoded, users, whole)
    pieces = _dealt({**columns, HASH: hash_R[kept]}, _first_outputs(outputs, whole.atoms.atoms)[atom_R[kept]], outputs)
    for split in whole.atoms.quarters:
        own = [output for output in outputs if output.quarters == split]
        row_E4 = quarter_rows(rows["item"], atom_R, whole.atoms, split)
        place_R = np.zeros(len(atom_R), dtype=np.int64)
        place_R[kept] = np.arange(len(kept))
        groups = {name: values[place_R[row_E4]] for name, values in columns.items()}
        pieces += _dealt({**groups, HASH: hash_R[row_E4[:, 0]]}, np.zeros(len(row_E4), dtype=np.int64), own)
    return [table, *pieces]


def quarter_rows(item_R: NDArray[Any], atom_R: NDArray[np.int8], atoms: Atoms, split: str) -> NDArray[np.int64]:
    """Return the rows that stand side by side: place k of each quarter of an item's rows in a split, int64 [E, 4].

    The rows are sorted by item and time; of an item's n rows each quarter has n // 4, the last n % 4 are left out.
    """
    inside = np.array([split in atom.splits for atom in atoms.atoms] + [False])  # the last for rows that are out
    row_S = np.flatnonzero(inside[atom_R])
    rows_I = np.bincount(item_R[row_S]) if len(row_S) else np.zeros(0, dtype=np.int64)
    size_I = rows_I // 4
    first_E = np.repeat(np.cumsum(rows_I) - rows_I, size_I)
    place_E = np.arange(size_I.sum()) - np.repeat(np.cumsum(size_I) - size_I, size_I)
    row_E4: NDArray[np.int64] = row_S[(first_E + place_E)[:, None] + np.repeat(size_I, size_I)[:, None] * np.arange(4)]
    return row_E4


def _first_outputs(outputs: Sequence[Output], atoms: Sequence[Atom]) -> NDArray[np.int64]:
    """Return the place of each atom's first file among the outputs, int64 [A]."""
    return np.array([min(i for i, o in enumerate(outputs) if o.atom == place) for place in range(len(atoms))])


def _dealt(columns: Columns, first_R: NDArray[np.int64], outputs: Sequence[Output]) -> list[dict[str, NDArray[Any]]]:
    """Return the rows of each output; `first_R` is the first output of each row's atom or split."""
    files = [output for output in outputs if output.quarters == outputs[0].quarters] if outputs else []
    if not files:
        return []
    of_R = np.array([output.of for output in files])[first_R]
    return split_by(columns, (first_R + slices(columns[HASH], of_R)).astype(np.int16), len(files))


def _scaled(value_R: NDArray[np.float64], low: float, high: float) -> NDArray[np.float64]:
    return (value_R - low) / (high - low) if high > low else np.zeros_like(value_R)


def schema_fields(
    dataset: LargeDataset, users: int, items: int, sizes: Mapping[str, int], hours: Mapping[str, NDArray[np.int64]]
) -> tuple[FieldSchema, ...]:
    """Return the fields in the schema's order; `sizes` of every category but the ids, the hours and the weekdays."""

    def category(name: str, size: int, role: FieldRole) -> FieldSchema:
        return FieldSchema(name=name, kind="category", size=size, role=role)

    def number(name: str, role: FieldRole) -> FieldSchema:
        return FieldSchema(name=name, kind="number", size=1, role=role)

    cold_start = not hours
    return (
        category("user_id", users, "user_id"),
        *(category(name, sizes[name], "user") for name in dataset.users.categories),
        category("item_id", items, "item_id"),
        *(category(name, sizes[name], "item") for name in dataset.items.categories),
        *(number(name, "item") for name in dataset.items.amounts),
        *([number("count", "item")] if cold_start else []),
        *(category(name, sizes[name], "context") for name in dataset.context),
        *([number("timestamp", "context")] if cold_start else []),
        *(category(name, len(known), "context") for name, known in hours.items()),
    )


def _file(number: int) -> str:
    return f"part-{number:05d}.parquet"
