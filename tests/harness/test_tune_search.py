"""What the searcher hands to Ray Tune again: trials whose process died, in whatever state Tune believed them to be."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from pathlib import Path

import pytest
from ray.tune.search import Searcher

from harness import tune_search
from harness.capacity import Capacity, Node, Slots
from harness.errors import LostWorkersError
from harness.places import Places
from harness.request import Job
from harness.specs import TrialSpec
from harness.store import Store
from harness.sweep import _run_job
from harness.trial import CHECKPOINT_SECONDS
from harness.trial_checkpoints import TrialCheckpoints, Write
from harness.tune_search import KILLED, TRIAL_OF_WORKERS_CPUS, TRIES, ScheduleSearcher
from tests.harness.small_table import made_result, small_cold_start, small_next_item

LAST = {"name": "Last", "method": "last_item", "parameters": {"size": 2, "learning_rate": 0.1}}


def test_a_trial_whose_process_died_is_begun_again_and_in_the_end_recorded(tmp_path: Path) -> None:
    small = small_next_item(tmp_path, rows=[LAST], seeds=[0])
    schedule = small.schedule()
    searcher = ScheduleSearcher(schedule, small.places, Slots(2, 1), Capacity((Node(2),)))
    handed = []
    for number in range(TRIES):
        handed.append(TrialSpec.model_validate_json(searcher.suggest(str(number))["spec"]))
        assert searcher.suggest("other") is None, "nothing else is ready, and this one may come back"
        searcher.on_trial_complete(str(number), error=True)
    assert handed == [handed[0]] * TRIES
    assert searcher.suggest("after") == Searcher.FINISHED
    assert [(result.status, result.error) for _, result in schedule.finished.values()] == [("failed", KILLED)]


def test_a_trial_that_ended_before_its_process_died_is_not_begun_again(tmp_path: Path) -> None:
    small = small_next_item(tmp_path, rows=[LAST], seeds=[0])
    schedule = small.schedule()
    searcher = ScheduleSearcher(schedule, small.places, Slots(2, 1), Capacity((Node(2),)))
    small.store.write(made_result(TrialSpec.model_validate_json(searcher.suggest("first")["spec"])), {})
    searcher.on_trial_complete("first", error=True)
    assert searcher.suggest("after") == Searcher.FINISHED
    assert [result.status for _, result in schedule.finished.values()] == ["finished"]


def test_a_trial_reserves_the_threads_of_its_row(tmp_path: Path) -> None:
    rows = [LAST, LAST | {"name": "Two", "threads": 2, "parameters": {"size": 4, "learning_rate": 0.1}}]
    small = small_next_item(tmp_path, rows=rows, seeds=[0])
    searcher = ScheduleSearcher(small.schedule(), small.places, Slots(4, 1), Capacity((Node(4),)))
    asked = [searcher.suggest("first"), searcher.suggest("second")]
    assert [json.loads(one["resources"])["cpu"] for one in asked] == [1, 2]
    assert [TrialSpec.model_validate_json(one["spec"]).threads for one in asked] == [1, 2]
    alone = ScheduleSearcher(small.schedule(), small.places, Slots(1, 4), Capacity((Node(4),)))
    assert json.loads(alone.suggest("first")["resources"])["cpu"] == 4


@pytest.mark.parametrize(("asked", "seconds"), [("7", 7.0), ("", 300.0)])
def test_processes_on_other_machines_take_checkpoints_as_often_as_the_run_was_asked_for(
    asked: str, seconds: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken: list[float] = []

    class Noted(TrialCheckpoints):
        def __init__(self, write: Write, *, seconds: float, resumed: bytes | None) -> None:
            taken.append(seconds)
            super().__init__(write, seconds=seconds, resumed=resumed)

    small = small_next_item(tmp_path, rows=[LAST], seeds=[0])
    monkeypatch.setenv(CHECKPOINT_SECONDS, asked)
    config = ScheduleSearcher(small.schedule(), small.places, Slots(2, 1), Capacity((Node(2),))).suggest("first")
    monkeypatch.delenv(CHECKPOINT_SECONDS)
    monkeypatch.setattr("harness.trial.TrialCheckpoints", Noted)
    monkeypatch.setattr("ray.tune.report", lambda metrics: None)
    _run_job(config)
    assert taken == [seconds]
    assert len(small.store.ids()) == 1


def test_so_do_the_workers_of_streams(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"name": "Plain", "method": "plain", "parameters": {"backbone": "item_factors", "learning_rate": 0.1}}]
    small = small_cold_start(tmp_path, rows=rows, seeds=[0], feed="stream")
    taken: list[float] = []

    def train(job: Job, places: Places, store: Store, name: str, seconds: float) -> str:
        taken.append(seconds)
        return "not in a test"

    monkeypatch.setattr("harness.train_workers._train", train)
    monkeypatch.setattr("ray.tune.report", lambda metrics: None)
    for asked in ("7", ""):
        monkeypatch.setenv(CHECKPOINT_SECONDS, asked)
        searcher = ScheduleSearcher(small.schedule(), small.places, Slots(2, 1), Capacity((Node(8),)))
        config = searcher.suggest("first")
        monkeypatch.delenv(CHECKPOINT_SECONDS)
        _run_job(config)
        (trial_id,) = small.store.ids()
        small.store.remove(trial_id)
    assert taken == [7.0, 30.0]


def test_a_trial_that_ended_without_a_record_here_ends_the_sweep_and_is_neither_begun_again_nor_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tune_search, "SEEN_WITHIN", 0.0)
    small = small_next_item(tmp_path, rows=[LAST], seeds=[0])
    schedule = small.schedule()
    searcher = ScheduleSearcher(schedule, small.places, Slots(2, 1), Capacity((Node(2),)))
    spec = TrialSpec.model_validate_json(searcher.suggest("first")["spec"])
    searcher.on_trial_complete("first", result={"problem": ""})
    assert searcher.problem == (
        f"trial {spec.id} ended, but its record is not in store {small.places.store} here;"
        f" on a cluster all nodes must share it"
    )
    assert searcher.suggest("after") == Searcher.FINISHED
    assert not schedule.finished
    assert not small.store.ids()


def test_a_record_of_another_node_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = small_next_item(tmp_path, rows=[LAST], seeds=[0])
    schedule = small.schedule()
    searcher = ScheduleSearcher(schedule, small.places, Slots(2, 1), Capacity((Node(2),)))
    spec = TrialSpec.model_validate_json(searcher.suggest("first")["spec"])
    monkeypatch.setattr(tune_search.time, "sleep", lambda seconds: small.store.write(made_result(spec), {}))
    searcher.on_trial_complete("first", result={"problem": ""})
    assert searcher.problem == ""
    assert [result.status for _, result in schedule.finished.values()] == ["finished"]


def no_room(*arguments: object, **keys: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("fault", ["no data", "no room", "no gpu"])
def test_what_other_trials_would_meet_too_ends_the_sweep_and_is_in_no_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    small = small_next_item(tmp_path, rows=[LAST], seeds=[0], gpus=0.5 if fault == "no gpu" else 0)
    schedule = small.schedule()
    searcher = ScheduleSearcher(schedule, small.places, Slots(2, 1), Capacity((Node(2, 1),)))
    config, reported = searcher.suggest("first"), []
    monkeypatch.setattr("ray.tune.report", reported.append)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    if fault == "no data":
        shutil.rmtree(small.places.data / "prepared" / small.dataset_name)
    if fault == "no room":
        monkeypatch.setattr("harness.resident_tables.np.save", no_room)
    _run_job(config)
    searcher.on_trial_complete("first", result=reported[0])
    expected = {
        "no data": "not prepared in .*; run `diffbench data prepare",
        "no room": r"cannot be written \(No space left on device\)",
        "no gpu": "torch sees no GPU in this process; set gpus: 0",
    }
    assert re.search(expected[fault], searcher.problem), searcher.problem
    assert searcher.suggest("after") == Searcher.FINISHED
    assert not schedule.finished
    assert not small.store.ids()


def test_a_trial_whose_workers_were_lost_is_begun_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(*arguments: object) -> None:
        raise LostWorkersError("its workers ended: the controller died")

    rows = [{"name": "Plain", "method": "plain", "parameters": {"backbone": "item_factors", "learning_rate": 0.1}}]
    small = small_cold_start(tmp_path, rows=rows, seeds=[0], feed="stream")
    searcher = ScheduleSearcher(small.schedule(), small.places, Slots(2, 1), Capacity((Node(8),)))
    monkeypatch.setattr("harness.train_workers.finish_in_workers", lost)
    config = searcher.suggest("first")
    with pytest.raises(LostWorkersError):
        _run_job(config)
    assert not small.store.ids()
    searcher.on_trial_complete("first", error=True)
    assert searcher.suggest("second") == config


def test_a_streamed_trial_waits_for_the_gpus_that_another_ones_workers_hold(tmp_path: Path) -> None:
    rows = [{"name": "Plain", "method": "plain", "parameters": {"backbone": "item_factors", "learning_rate": 0.1}}]
    small = small_cold_start(tmp_path, rows=rows, seeds=[0, 1], gpus=1, workers=2, feed="stream")
    for gpus, told in ((2, False), (4, True)):
        searcher = ScheduleSearcher(small.schedule(), small.places, Slots(2, 1), Capacity((Node(8, gpus),)))
        assert searcher.suggest("first")["resources"] == json.dumps({"cpu": TRIAL_OF_WORKERS_CPUS})
        assert (searcher.suggest("second") is not None) == told
