"""Streamed trials in workers of Ray Train: several give the numbers of one, and a killed one goes on as if nothing was.

Every step leaves a checkpoint, and checkpoints are all that a new worker knows of the old one.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import ray.train
import torch

from harness import ray_reading
from harness.capacity import Capacity
from harness.cluster import connected
from harness.errors import LostWorkersError, SharedError
from harness.places import Places
from harness.schedule import Schedule
from harness.store import CHECKPOINTS
from harness.streamed_tables import in_parts
from harness.streaming import open_stream, read_here
from harness.sweep import Watch, run_sweep
from harness.train_workers import finish_in_workers
from harness.trial import CHECKPOINT_SECONDS, ROWS_SEEN, checkpoint_name
from tests.harness import killed_table as killed_table_module
from tests.harness.killed_table import KilledTable, killed_table
from tests.harness.small_table import INTERACTIONS, small_cold_start

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


@pytest.mark.parametrize("workers", [1, 2])
def test_what_all_workers_would_meet_ends_the_sweep_and_is_no_trials_error(
    table: KilledTable, capacity: Capacity, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    prepared, elsewhere = table.places.data / "prepared", table.places.data / "elsewhere"

    def without_data(schedule: Schedule, places: Places, capacity: Capacity, watch: Watch) -> None:
        shutil.move(prepared, elsewhere)
        run_sweep(schedule, places, capacity, watch)

    with monkeypatch.context() as patch:
        patch.setattr(killed_table_module, "run_sweep", without_data)
        with pytest.raises(SharedError, match=rf"^{INTERACTIONS}: not prepared in .*; run `diffbench data prepare"):
            table.run({"killed": ()}, capacity, workers=workers)
    assert table.store.ids() == []

    shutil.move(elsewhere, prepared)
    found = table.run({"killed": ()}, capacity, workers=workers)["killed"]
    assert found.status == "finished", found.error
    assert list((Path(table.places.store) / CHECKPOINTS).iterdir()) == []


def test_a_checkpoint_without_room_ends_the_sweep_and_the_trial_goes_on_later(
    table: KilledTable, capacity: Capacity
) -> None:
    """The fifth step finds no room: the same command goes on from the checkpoint of the fourth."""
    with pytest.raises(
        SharedError, match=r"checkpoint cannot be written \(No space left on device\); make room there$"
    ):
        table.run({"full": (5,)}, capacity, full=True)
    assert table.left("full") == []
    assert table.store.ids() == []
    assert len(list((Path(table.places.store) / CHECKPOINTS).iterdir())) == 1

    found = table.run({"full": ()}, capacity)["full"]
    assert found.status == "finished", found.error
    assert found.curves[ROWS_SEEN].values == [table.rows_seen]


@pytest.mark.parametrize(
    ("raised", "outcome"),
    [
        (ray.train.ControllerError(RuntimeError("it\ndied")), LostWorkersError),
        (ray.train.WorkerGroupError("killed again\nand again", {}), None),
    ],
)
def test_checkpoints_stay_until_there_is_a_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raised: Exception, outcome: type[Exception] | None
) -> None:
    def fit() -> None:
        raise raised

    rows = [{"name": "Plain", "method": "plain", "parameters": {"backbone": "item_factors", "learning_rate": 0.1}}]
    small = small_cold_start(tmp_path, rows=rows, seeds=[0], feed="stream")
    job = small.schedule().next_job()
    assert job is not None
    name = checkpoint_name(job.spec, small.catalog)
    small.store.write_checkpoint(name, "worker-0.pt", b"epochs of it")
    monkeypatch.setattr("ray.train.torch.TorchTrainer", lambda *arguments, **keys: SimpleNamespace(fit=fit))
    with pytest.raises(outcome) if outcome else contextlib.nullcontext():
        finish_in_workers(job, small.places)
    found = small.store.record(job.spec.id)
    if outcome is None:
        assert found is not None
        assert (found.status, found.error[:31]) == ("failed", "its workers ended: Training fai")
    else:
        assert found is None
    assert (small.store.checkpoint(name, "worker-0.pt") is not None) == (outcome is not None)


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
