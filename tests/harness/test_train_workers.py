"""Streamed trials in workers of Ray Train: several give the numbers of one, and a killed one goes on as if nothing was.

Every step leaves a checkpoint, and checkpoints are all that a new worker knows of the old one.
"""

from __future__ import annotations

import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from harness import ray_reading
from harness.cluster import Capacity, connected
from harness.places import Places
from harness.schedule import Schedule
from harness.store import CHECKPOINTS
from harness.streamed_tables import in_parts
from harness.streaming import open_stream, read_here
from harness.sweep import Watch, run_sweep
from harness.trial import CHECKPOINT_SECONDS, ROWS_SEEN
from tests.harness import killed_table as killed_table_module
from tests.harness.killed_table import KilledTable, killed_table
from tests.harness.small_table import INTERACTIONS

pytestmark = pytest.mark.starts_ray


@pytest.fixture(scope="module")
def capacity() -> Iterator[Capacity]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(CHECKPOINT_SECONDS, "0")
        with connected(cpus=2, imports_ahead=False) as capacity:
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


@pytest.mark.parametrize("workers", [1, 2])
def test_a_trial_whose_checkpoint_is_cut_begins_anew(table: KilledTable, capacity: Capacity, workers: int) -> None:
    """Of two workers the first one's is whole, and is not gone on from."""
    step = 5
    found = table.run({"cut": (step,)}, capacity, workers=workers, cut=True)["cut"]
    assert found.status == "finished", found.error
    assert table.left("cut") == [], "it was not killed"
    assert found.curves[ROWS_SEEN].values == [table.rows_seen]
    table.store.remove(found.id)
    assert found.metrics == table.run({"cut": ()}, capacity, workers=workers)["cut"].metrics


def test_what_a_new_worker_would_meet_again_is_the_trials_error(
    table: KilledTable, capacity: Capacity, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_data(schedule: Schedule, places: Places, capacity: Capacity, watch: Watch) -> None:
        shutil.rmtree(places.data / "prepared")
        run_sweep(schedule, places, capacity, watch)

    monkeypatch.setattr(killed_table_module, "run_sweep", without_data)
    found = table.run({"killed": ()}, capacity)["killed"]
    assert found.status == "failed"
    assert found.error.startswith(f"{INTERACTIONS}: not prepared in ")


@pytest.mark.parametrize("rows_of_block", [1, 10**6])
def test_ray_reads_the_rows_that_are_read_here(
    table: KilledTable, capacity: Capacity, monkeypatch: pytest.MonkeyPatch, rows_of_block: int
) -> None:
    monkeypatch.setattr(ray_reading, "ROWS_OF_BLOCK", rows_of_block)
    by_ray, here = (
        open_stream(in_parts(table.dataset), "base", "repeat", read=read)
        for read in (ray_reading.read_by_ray, read_here)
    )
    for skip in (0, 3):
        pairs = zip(
            by_ray.batches(64, shuffle_seed=1, skip=skip), here.batches(64, shuffle_seed=1, skip=skip), strict=True
        )
        for one, other in pairs:
            assert torch.equal(one.label_B, other.label_B)
            assert all(torch.equal(one.columns[name], other.columns[name]) for name in other.columns)


def test_two_workers_give_the_numbers_of_one_and_killed_ones_too(table: KilledTable, capacity: Capacity) -> None:
    """Without dropout, whose random numbers workers draw by themselves, they differ by the rounding of sums alone.

    An even step kills the first worker, an odd one the second.
    """
    step, plain = random.randrange(table.steps), {"backbone.dropout": 0.0}
    found = table.run({"whole": (), f"killed at {step}": (step,)}, capacity, workers=2, parameters=plain)
    whole, killed = found.values()
    assert (whole.status, killed.status) == ("finished", "finished"), whole.error + killed.error
    assert table.left(list(found)[1]) == [], "it was not killed"
    assert killed.metrics == whole.metrics
    assert killed.curves[ROWS_SEEN].values == whole.curves[ROWS_SEEN].values == [table.rows_seen]

    one = table.run({"one": ()}, parameters=plain)["one"]
    assert (whole.spec.workers, one.spec.workers) == (2, 1)
    # So few rows leave scores that hardly differ, of which rounding turns a few pairs round: the AUC counts pairs.
    for name, value in one.metrics.items():
        assert whole.metrics[name] == pytest.approx(value, abs=1e-4 if name.endswith("log_loss") else 1e-2), name
