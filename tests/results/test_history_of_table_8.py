"""What Table 8's marks say of its short histories, counted in the real sequences."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.datasets import catalog
from harness.datasets.raw import read_raw
from harness.places import places
from harness.table_specs import find_table


def items_to_predict(name: str, raw_data: Path) -> int:
    """Return how many items are predicted in training with `prefixes`: all of a sequence but its first."""
    dataset = catalog.find(name)
    files = read_raw(raw_data / dataset.folder, dataset.layouts[0])
    return int(dataset.parse(files).tables["train"]["length"].sum())


@pytest.mark.parametrize(("dataset", "shown"), [("sports", "Sports"), ("beauty", "Beauty"), ("toys", "Toys")])
def test_the_marks_tell_how_many_fewer_items_there_are_to_train_on(dataset: str, shown: str, raw_data: Path) -> None:
    short, longer = (
        items_to_predict(f"amazon-{dataset}-leave-one-out{history}", raw_data) for history in ("", "-history-50")
    )
    unit = " % " if shown == "Toys" else " "
    marks = [row.mark for row in find_table("preferdiff/table8", places().results)[0].rows if "history of" in row.mark]
    assert len(marks) == 7
    assert all(f"{100 * (1 - short / longer):.1f}{unit}({shown})" in mark for mark in marks)
