"""A streamed trial in a worker of Ray Train that is killed: it goes on, and gives the numbers of one that was not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from harness.cluster import connected
from harness.datasets.synthetic import write_small_interactions
from harness.methods import MethodCatalog
from harness.places import Places
from harness.places import places as own_places
from harness.request import Request
from harness.schedule import Schedule
from harness.store import CHECKPOINTS, Store
from harness.sweep import run_here, run_sweep
from harness.table_specs import Row, TableSpec
from harness.trial import ROWS_SEEN
from tests.doubles import KILLED_AT

METHOD = """
name: killed_at
title: Kills its worker
class: "tests.doubles:KilledAt"
version: 1
"""


@pytest.fixture
def places(tmp_path: Path) -> Places:
    home = own_places()
    spaces = tmp_path / "search_spaces"
    shutil.copytree(home.search_spaces, spaces)
    (spaces / "killed_at.yaml").write_text(METHOD, encoding="utf-8")
    return Places(home.results, spaces, tmp_path / "data", str(tmp_path / "runs"), tmp_path / "tensorboard")


def test_a_killed_worker_goes_on_from_its_last_checkpoint(places: Places, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = write_small_interactions(places.data / "prepared" / "small")
    marks = places.data / "killed"
    marks.mkdir()
    parameters = {"backbone": "deepfm", "batch_size": 512, "epochs": 2, "folder": str(marks)}
    table = TableSpec(
        title="t", paper="p", kind="cells", task="cold_start", datasets=("small",), metrics=("cold/auc",),
        seeds=(0,), feed="stream", rows=(Row(name="killed", method="killed_at", parameters=parameters),),
    )  # fmt: skip
    request = Request(table, {"small": dataset}, ("killed",), (0,), "tuned")
    # Every step leaves a checkpoint, and checkpoints are all that a new worker knows of the old one.
    monkeypatch.setenv("DIFFBENCH_CHECKPOINT_SECONDS", "0")
    monkeypatch.setenv(KILLED_AT, "2,6")
    schedule = Schedule(request, MethodCatalog(places.search_spaces), Store(places.store))
    with connected(cpus=2) as capacity:
        run_sweep(schedule, places, capacity, lambda schedule: None)
    ((_, found),) = schedule.finished.values()
    assert found.status == "finished", found.error
    assert sorted(path.name for path in marks.iterdir()) == ["2", "6"], "it was not killed"
    assert found.spec.feed == "stream"
    assert list((Path(places.store) / CHECKPOINTS).iterdir()) == []

    Store(places.store).remove(found.id)
    monkeypatch.delenv(KILLED_AT)
    alone = Schedule(request, MethodCatalog(places.search_spaces), Store(places.store))
    run_here(alone, places, lambda schedule: None)
    ((_, expected),) = alone.finished.values()
    assert found.metrics == expected.metrics
    splits = dataset.schema.splits
    blocks = sum(splits[f"warm_{block}"].rows for block in "abc")
    assert found.curves[ROWS_SEEN].values == [2 * splits["base"].rows + blocks]
