"""Which splits the rows of a partition lie in: atoms, the combinations of splits that occur, and their sizes.

Legend: R rows of a partition, sorted by item and time, I items, A atoms, S splits.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.datasets.click_split import SPLITS as CLICK_SPLITS
from harness.datasets.cold_start_split import BASE, LEFT_OUT, SPLIT_CODES, pseudo_new_count, split_rows
from harness.datasets.large.description import ColdStart
from harness.datasets.large.formats import Columns
from harness.datasets.large.row_numbers import tenths

OUT = -1
"""The atom of rows that lie in no split."""

VALIDATION = "validation_"


@dataclass(frozen=True)
class Atom:
    """Rows that lie in the same splits; `rows` is their number, or about their number where chance deals them."""

    name: str
    splits: tuple[str, ...]
    rows: int


@dataclass(frozen=True)
class ColdStartAtoms:
    """The atoms of a cold-start dataset.

    Attributes:
        protocol: N and K.
        pseudo_new: N', the largest count of a pseudo-new item.
        atoms: their names, splits and exact sizes.
        quarters: of `base` and `validation_base`, how many rows each of the four quarters has.
    """

    protocol: ColdStart
    pseudo_new: int
    atoms: tuple[Atom, ...]
    quarters: Mapping[str, int]

    def of_rows(self, rows: Columns) -> NDArray[np.int8]:
        """Return the atom of each row, int8 [R]."""
        item_R, in_order_R = rows["item"], np.arange(len(rows["item"]))
        split_R = split_rows(item_R, in_order_R, hot_above=self.protocol.hot_above, block=self.protocol.block)
        base_R = split_R == BASE
        validation_R = np.full(len(item_R), LEFT_OUT, dtype=np.int32)
        validation_R[base_R] = split_rows(
            item_R[base_R], in_order_R[base_R], hot_above=self.pseudo_new, block=self.protocol.block
        )
        places = {atom.splits: place for place, atom in enumerate(self.atoms)}
        atom_of = np.full((len(SPLIT_CODES) + 1, len(SPLIT_CODES) + 1), OUT, dtype=np.int8)
        for split, code in (*SPLIT_CODES.items(), ("", LEFT_OUT)):
            for validation, validation_code in (*SPLIT_CODES.items(), ("", LEFT_OUT)):
                atom_of[code, validation_code] = places.get(_splits(split, validation), OUT)
        return atom_of[split_R, validation_R]


def cold_start_atoms(protocol: ColdStart, count_I: NDArray[np.int64], items_I: NDArray[np.int64]) -> ColdStartAtoms:
    """Return the atoms from how many items have each number of rows.

    Args:
        protocol: N and K.
        count_I: numbers of rows.
        items_I: how many items have each.
    """
    hot_I = (count_I > protocol.hot_above) & (count_I >= 3 * protocol.block)
    pseudo_new = pseudo_new_count(np.repeat(count_I[hot_I], items_I[hot_I]))
    sizes: dict[tuple[str, ...], int] = {}
    for count, items in zip(count_I.tolist(), items_I.tolist(), strict=True):
        for split, rows in _rows_of(count, protocol.hot_above, protocol.block).items():
            within = _rows_of(count, pseudo_new, protocol.block) if split == "base" else {"": rows}
            for validation, some in within.items():
                splits = _splits(split, validation)
                sizes[splits] = sizes.get(splits, 0) + items * some
    ordered = sorted(sizes, key=lambda splits: [_ORDER.index(split) for split in splits])
    atoms = tuple(Atom("-".join(splits), splits, sizes[splits]) for splits in ordered if sizes[splits])
    above = {"base": hot_I, VALIDATION + "base": hot_I & (count_I > pseudo_new)}
    quarters = {split: int((count_I // 4 * items_I)[of_I].sum()) for split, of_I in above.items()}
    return ColdStartAtoms(protocol, pseudo_new, atoms, quarters)


_ORDER = [*SPLIT_CODES, *(VALIDATION + split for split in SPLIT_CODES)]


def _rows_of(count: int, hot_above: int, block: int) -> dict[str, int]:
    """Return how many of an item's rows are in each split; none for one that is left out."""
    if count < 3 * block:
        return {}
    if count > hot_above:
        return {"base": count}
    return {"warm_a": block, "warm_b": block, "warm_c": block, "test": count - 3 * block}


def _splits(split: str, validation: str) -> tuple[str, ...]:
    return tuple(name for name in (split, validation and VALIDATION + validation) if name)


@dataclass(frozen=True)
class Bound:
    """A place in the order by time and, of equal times, the file: the first row that lies beyond."""

    time: int
    row: int


@dataclass(frozen=True)
class ClickAtoms:
    """The atoms of a dataset of the task `ctr`; `bounds` are where the time splits end, the last one's left out."""

    bounds: tuple[Bound, ...]
    atoms: tuple[Atom, ...]
    quarters: Mapping[str, int] = field(default_factory=dict)

    def of_rows(self, rows: Columns) -> NDArray[np.int8]:
        """Return the atom of each row, int8 [R]."""
        time_R, row_R = rows["time"], rows["row"]
        by_time_R = np.zeros(len(time_R), dtype=np.int8)
        for bound in self.bounds:
            by_time_R += (time_R > bound.time) | ((time_R == bound.time) & (row_R >= bound.row))
        random_R = np.searchsorted([8, 9], tenths(row_R), side="right").astype(np.int8)
        return (len(CLICK_SPLITS) * by_time_R + random_R).astype(np.int8)


LEAST_CLICKS = 100
"""The rows for which the smallest of the nine atoms, a hundredth of all, is expected to have one."""


def click_atoms(rows: int, bounds: Sequence[Bound]) -> ClickAtoms:
    """Return the nine atoms of this many rows, with the sizes that are expected of them."""
    tenth = {"train": 8, "validation": 1, "test": 1}
    atoms = tuple(
        Atom(f"time_{time}-random_{random}", (f"time_{time}", f"random_{random}"), rows * size * part // 100)
        for time, size in tenth.items()
        for random, part in tenth.items()
    )
    return ClickAtoms(tuple(bounds), atoms)


Atoms = ColdStartAtoms | ClickAtoms


def splits_of(atoms: Atoms) -> dict[str, tuple[Atom, ...]]:
    """Return the atoms of each split, the splits in the order of the schema."""
    if isinstance(atoms, ColdStartAtoms):
        names: Sequence[str] = _ORDER
    else:
        names = [f"{kind}_{name}" for kind in ("time", "random") for name in CLICK_SPLITS]
    return {name: tuple(atom for atom in atoms.atoms if name in atom.splits) for name in names}


def searchable(atoms: Atoms, split: str) -> bool:
    """Return whether a search may read a split."""
    if isinstance(atoms, ColdStartAtoms):
        return split.startswith(VALIDATION)
    return not split.endswith("_test")


def split_counts(atoms: Atoms, item_R: NDArray[Any], atom_R: NDArray[np.int8], items: int) -> dict[str, NDArray[Any]]:
    """Return `count_<split>` of every item: its rows in that split, int32 [I]."""
    size = len(atoms.atoms) + 1
    place_R = item_R.astype(np.int64) * size + atom_R + 1
    count_IA = np.bincount(place_R, minlength=items * size).reshape(items, size)[:, 1:]
    return {
        f"count_{split}": count_IA[:, [atoms.atoms.index(atom) for atom in some]].sum(axis=1).astype(np.int32)
        for split, some in splits_of(atoms).items()
    }
