"""A dataset of tables as one in parts, written once beside it: for a stream over data that would fit in memory.

Legend: R rows of the dataset, S rows of a split, B rows written at once, C columns of a packed row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.derived import derived_folder
from harness.datasets.parts import PARTS, QUARTERS, ROWS_OF_PART, write_part
from harness.datasets.prepared import PreparedDataset, Schema, SplitSchema, open_prepared
from harness.datasets.writing import read_table, write_table
from harness.feed import COUNT, ResidentRows, open_rows
from harness.packed_columns import joined_columns
from harness.seeding import derive_seed
from trainables.base import CtrBatch

QUARTERED = ("base", "validation_base")
"""The splits whose rows cold-start methods ask for in quarters."""


def in_parts(dataset: PreparedDataset) -> PreparedDataset:
    """Return the same rows in the layout `parts`, writing them first when no process has yet.

    Rows are shuffled once, by the dataset's hash.

    Raises:
        InputError: the dataset holds sequences.
        DataError: its files are missing, damaged or other rows' by now, or its folder cannot be written.
    """
    if dataset.schema.layout == "parts":
        return dataset
    return open_prepared(derived_folder(dataset, "streamed", _write, "parts"))


def _write(dataset: PreparedDataset, folder: Path) -> None:
    splits = {split: open_rows(dataset, split, "repeat") for split in dataset.schema.splits}
    atoms = _atoms({split: rows.row_numbers for split, rows in splits.items()})
    for atom, row_S in atoms.items():
        rows = next(iter(splits.values())).of(_shuffled(row_S, dataset.hash, atom))
        _write_parts(folder / PARTS / atom, _packed(rows, dataset))
    for split in QUARTERED:
        if split in splits:
            quarters = splits[split].item_quarters(derive_seed(0, "stored", dataset.hash))
            _write_parts(folder / QUARTERS / split, _side_by_side(quarters, dataset))
    write_table(folder / "items.parquet", _items(dataset, splits))
    schema = _schema(dataset.schema, list(atoms))
    (folder / "schema.json").write_text(schema.model_dump_json(indent=2) + "\n", encoding="utf-8")


def _atoms(rows_of_split: Mapping[str, NDArray[np.int32]]) -> dict[str, NDArray[np.int32]]:
    """Return the rows of each atom, by its name: the names of the splits that all of its rows lie in."""
    last = max((int(row_S.max(initial=-1)) for row_S in rows_of_split.values()), default=-1)
    inside_R = np.zeros(last + 1, dtype=np.int64)
    for bit, row_S in enumerate(rows_of_split.values()):
        inside_R[row_S] |= 1 << bit
    atoms = {}
    for inside in np.unique(inside_R[inside_R > 0]).tolist():
        name = "+".join(split for bit, split in enumerate(rows_of_split) if inside >> bit & 1)
        atoms[name] = np.flatnonzero(inside_R == inside).astype(np.int32)
    return atoms


def _schema(schema: Schema, atoms: list[str]) -> Schema:
    splits = {
        split: SplitSchema(
            rows=own.rows, search=own.search, atoms=tuple(atom for atom in atoms if split in atom.split("+"))
        )
        for split, own in schema.splits.items()
    }
    return schema.model_copy(update={"layout": "parts", "splits": splits})


def _shuffled(row_S: NDArray[np.int32], *purpose: str) -> NDArray[np.int32]:
    return np.random.default_rng(derive_seed(0, "stored", *purpose)).permutation(row_S)


def _packed(rows: ResidentRows, dataset: PreparedDataset) -> Iterator[NDArray[np.int32]]:
    return (_packed_batch(batch, dataset) for batch in rows.batches(ROWS_OF_PART))


def _side_by_side(quarters: tuple[ResidentRows, ...], dataset: PreparedDataset) -> Iterator[NDArray[np.int32]]:
    for batches in zip(*(quarter.batches(ROWS_OF_PART // 4) for quarter in quarters), strict=True):
        yield np.concatenate([_packed_batch(batch, dataset) for batch in batches], axis=1)


def _packed_batch(batch: CtrBatch, dataset: PreparedDataset) -> NDArray[np.int32]:
    layout = joined_columns(dataset.fields)
    packed_BC = np.empty((len(batch), layout.width), dtype=np.int32)
    views = layout.views(packed_BC)
    for name, column in batch.columns.items():
        views[name].copy_(column)
    views["label"].copy_(batch.label_B)
    return packed_BC


def _write_parts(folder: Path, matrices: Iterator[NDArray[np.int32]]) -> None:
    folder.mkdir(parents=True)
    for number, packed_BC in enumerate(matrices):
        write_part(folder / f"part-{number:05d}.parquet", packed_BC)


def _items(dataset: PreparedDataset, splits: Mapping[str, ResidentRows]) -> dict[str, NDArray[Any]]:
    counts = {
        f"{COUNT}_{split}": np.bincount(rows.item_numbers, minlength=dataset.schema.items).astype(np.int32)
        for split, rows in splits.items()
    }
    return read_table(dataset.folder / "items.parquet") | counts
