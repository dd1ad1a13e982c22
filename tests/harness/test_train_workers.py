"""Streamed trials in workers of Ray Train: several give the numbers of one, and a killed one goes on as if nothing was.

Every step leaves a checkpoint, and checkpoints are all that a new worker knows of the old one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cluster import Capacity, connected
from harness.store import CHECKPOINTS
from harness.train_workers import CHECKPOINT_SECONDS
from harness.trial import ROWS_SEEN
from tests.harness.killed_table import KilledTable, killed_table


@pytest.fixture(scope="module")
def capacity() -> Iterator[Capacity]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CHECKPOINT_SECONDS, "0")
        with connected(cpus=2) as capacity:
            yield capacity


@pytest.fixture
def table(tmp_path: Path) -> KilledTable:
    return killed_table(tmp_path)


def test_a_killed_worker_goes_on_from_its_last_checkpoint(table: KilledTable, capacity: Capacity) -> None:
    found = table.run({"killed": (2, 6)}, capacity)["killed"]
    assert found.status == "finished", found.error
    assert table.left("killed") == [], "it was not killed"
    assert found.spec.feed == "stream"
    assert list((Path(table.places.store) / CHECKPOINTS).iterdir()) == []
    assert found.curves[ROWS_SEEN].values == [table.rows_seen]

    table.store.remove(found.id)
    assert found.metrics == table.run({"killed": ()})["killed"].metrics


def test_either_of_two_workers_is_killed_and_both_go_on(table: KilledTable, capacity: Capacity) -> None:
    even, odd = random.randrange(0, table.steps, 2), random.randrange(1, table.steps, 2)
    found = table.run({"whole": (), f"killed at {even} and {odd}": (even, odd)}, capacity, workers=2)
    whole, killed = found.values()
    assert (whole.status, killed.status) == ("finished", "finished"), killed.error
    assert table.left(list(found)[1]) == [], "they were not killed"
    assert killed.metrics == whole.metrics
    assert killed.curves[ROWS_SEEN].values == whole.curves[ROWS_SEEN].values == [table.rows_seen]


def test_two_workers_give_the_numbers_of_one(table: KilledTable, capacity: Capacity) -> None:
    """Without dropout, whose random numbers workers draw by themselves, they differ by the rounding of sums alone."""
    two = table.run({"all": ()}, capacity, workers=2, parameters={"backbone.dropout": 0.0})["all"]
    one = table.run({"all": ()}, parameters={"backbone.dropout": 0.0})["all"]
    assert (two.spec.workers, one.spec.workers) == (2, 1)
    assert two.curves[ROWS_SEEN].values == [table.rows_seen]
    # So few rows leave scores that hardly differ, of which rounding turns a few pairs round: the AUC counts pairs.
    for name, value in one.metrics.items():
        assert two.metrics[name] == pytest.approx(value, abs=1e-4 if name.endswith("log_loss") else 1e-2), name
