import numpy as np
import pytest

from harness.datasets.cold_start_split import SPLIT_CODES, split_rows, validation_split_rows
from harness.datasets.large.atoms import OUT, Bound, click_atoms, cold_start_atoms, split_counts, splits_of
from harness.datasets.large.description import ColdStart


@pytest.mark.parametrize(("hot_above", "block"), [(30, 5), (12, 4), (5, 6), (1000, 3), (0, 1)])
def test_sizes_from_counts_alone_are_those_of_the_rows(hot_above: int, block: int) -> None:
    random = np.random.default_rng(hot_above)
    count_I = random.integers(1, 80, 60)
    item_R = np.repeat(np.arange(60), count_I)
    row_R = np.arange(len(item_R))
    split_R = split_rows(item_R, row_R, hot_above=hot_above, block=block)
    validation_R = validation_split_rows(item_R, row_R, split_R, block=block)
    atoms = cold_start_atoms(ColdStart(hot_above, block), *np.unique(count_I, return_counts=True))
    atom_R = atoms.of_rows({"item": item_R})
    assert [int((atom_R == place).sum()) for place in range(len(atoms.atoms))] == [atom.rows for atom in atoms.atoms]
    assert ((atom_R == OUT) == ((split_R < 0) & (validation_R < 0))).all()
    for split, some in splits_of(atoms).items():
        known_R = validation_R if split.startswith("validation_") else split_R
        inside_R = np.isin(atom_R, [atoms.atoms.index(atom) for atom in some])
        assert (inside_R == (known_R == SPLIT_CODES[split.removeprefix("validation_")])).all(), split
    counts = split_counts(atoms, item_R, atom_R, 60)
    assert counts["count_validation_base"].sum() == (validation_R == 0).sum()
    for split, of_R in (("base", split_R), ("validation_base", validation_R)):
        assert atoms.quarters[split] == int((np.bincount(item_R[of_R == 0], minlength=60) // 4).sum())


def test_click_atoms_are_the_nine_combinations() -> None:
    atoms = click_atoms(1000, [Bound(50, 7), Bound(60, 0)])
    assert sum(atom.rows for atom in atoms.atoms) == 1000
    rows = {"time": np.array([49, 50, 50, 59, 60, 61]), "row": np.array([9, 6, 7, 0, 0, 1])}
    names = [atoms.atoms[place].splits[0] for place in atoms.of_rows(rows)]
    assert names == ["time_train"] * 2 + ["time_validation"] * 2 + ["time_test"] * 2
