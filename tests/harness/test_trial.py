from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.errors import DataError, TrialError
from harness.methods import MethodCatalog, trial_spec
from harness.record import TrialResult
from harness.specs import Parameters, Purpose, TrialSpec
from harness.sweep import run_here
from harness.table_rows import Row
from harness.trial import (
    ARRAYS,
    CHECKPOINT,
    code_hash,
    describe,
    failed_record,
    finish_trial,
    load_arrays,
    load_checkpoint,
    run_trial,
)
from tests.doubles import SPARE
from tests.harness.leave_one_out import leave_one_out_contents, written
from tests.harness.small_table import SmallTable, made_result, small_cold_start, small_next_item
from trainables.next_item.caser import Caser

FAST: Parameters = {"maximum_epochs": 2, "batch_size": 32}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallTable:
    return small_next_item(tmp_path_factory.mktemp("next_item"))


@pytest.fixture
def fresh(tmp_path: Path) -> SmallTable:
    return small_next_item(tmp_path)


def spec_of(
    small: SmallTable,
    method: str = "last_item",
    parameters: Parameters | None = None,
    *,
    seed: int = 0,
    purpose: Purpose = "repeat",
    start: TrialSpec | None = None,
) -> TrialSpec:
    return trial_spec(
        task_name=small.spec.task,
        dataset=small.dataset_name,
        dataset_hash=small.dataset.hash,
        row=Row(name="row", method=method),
        parameters=FAST | (parameters or {}) if small.spec.task == "next_item" else parameters or {},
        seed=seed,
        threads=1,
        purpose=purpose,
        gpus=0,
        catalog=small.catalog,
        start=start,
    )


def run(small: SmallTable, spec: TrialSpec, **keys: Any) -> TrialResult:
    return run_trial(spec, small.dataset, small.catalog, **keys)[0]


# What a trial gives


def test_a_repeat_measures_test_metrics_and_a_search_does_not(small: SmallTable) -> None:
    repeat, search = run(small, spec_of(small)), run(small, spec_of(small, purpose="search"))
    assert (repeat.status, repeat.error, search.status) == ("finished", "", "finished")
    assert {"test/recall@5", "test/ndcg@10", "validation/recall@5"} <= set(repeat.metrics)
    assert not any(name.startswith("test/") for name in search.metrics)
    assert repeat.metrics["validation/recall@5"] == search.metrics["validation/recall@5"]


def test_a_record_says_where_and_with_what_it_ran(small: SmallTable) -> None:
    spec = spec_of(small)
    record = run(small, spec)
    assert (record.id, record.spec, record.data_note) == (spec.id, spec, "generated")
    assert record.environment is not None
    assert (record.environment.threads, record.environment.torch) == (1, torch.__version__)
    assert record.code_hash == code_hash()
    assert len(record.code_hash) == 12
    assert record.peak_memory_bytes > 2**20
    assert 0 < record.wall_seconds < 60
    assert record.cpu_seconds > 0
    loss = record.curves["train/loss"]
    assert loss.steps == [3, 6]  # 80 rows in batches of 32, twice
    assert loss.values[1] < loss.values[0]
    assert TrialResult.from_json(record.to_json()) == record


def test_the_same_spec_gives_the_same_bits(small: SmallTable) -> None:
    spec = spec_of(small, parameters={"dropout": 0.5})
    torch.manual_seed(1)
    first, files = run_trial(spec, small.dataset, small.catalog)
    torch.manual_seed(2)
    torch.rand(3)
    second, other_files = run_trial(spec, small.dataset, small.catalog)
    assert first.metrics == second.metrics
    assert first.curves["train/loss"].values == second.curves["train/loss"].values
    assert set(files) == {ARRAYS, CHECKPOINT}
    assert files[CHECKPOINT] == other_files[CHECKPOINT]
    assert run(small, spec_of(small, parameters={"dropout": 0.5}, seed=1)).metrics != first.metrics


CODE = """
import json, sys
from pathlib import Path
from tests.harness.small_table import SEQUENCES, SmallTable
from tests.harness.test_trial import run, spec_of
small = SmallTable(Path(sys.argv[1]), SEQUENCES)
record = run(small, spec_of(small, parameters={"dropout": 0.5}))
print(json.dumps([record.id, record.metrics, record.curves["train/loss"].values]))
"""


def in_another_process(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, sys.path))
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_another_process_gives_the_same_bits(small: SmallTable) -> None:
    record = run(small, spec_of(small, parameters={"dropout": 0.5}))
    printed = in_another_process(CODE, str(small.folder), PYTHONHASHSEED="5").stdout
    assert json.loads(printed) == [record.id, record.metrics, record.curves["train/loss"].values]


def test_the_callers_random_numbers_are_left_alone(small: SmallTable) -> None:
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    run(small, spec_of(small, parameters={"dropout": 0.5}))
    assert torch.equal(torch.random.get_rng_state(), before)


# Trials that fail


@pytest.mark.parametrize(
    ("method", "error"),
    [
        ("raises", r"^RuntimeError: the first line and the second \(doubles\.py, line \d+\)$"),
        ("nan_loss", "^FloatingPointError: training loss is nan in epoch 1"),
        ("nan_scores", "nan|finite"),
        ("exits", "^SystemExit: enough"),
    ],
)
def test_a_method_that_fails_gives_a_record_with_one_line(method: str, error: str, small: SmallTable) -> None:
    record, files = run_trial(spec_of(small, method), small.dataset, small.catalog)
    assert record.status == "failed"
    assert not record.metrics
    assert not files
    assert "\n" not in record.error
    assert re.search(error, record.error), record.error
    assert TrialResult.from_json(record.to_json()) == record


def test_a_search_that_asks_for_test_data_fails(small: SmallTable) -> None:
    folder = str(small.dataset.folder)
    record = run(small, spec_of(small, "reads_test_data", {"folder": folder}, purpose="search"))
    assert record.status == "failed"
    assert "test" in record.error
    assert "search" in record.error
    assert "Error:" not in record.error  # our own words, not a traceback's


def test_other_rows_than_the_specs_are_refused(small: SmallTable) -> None:
    spec = spec_of(small).model_copy(update={"dataset_hash": "0" * 64})
    hashes = f"{small.dataset.hash[:12]}, not 000000000000"
    with pytest.raises(DataError, match=rf"prepared rows have hash {hashes}; run the command again$"):
        run(small, spec)


def test_a_long_message_is_cut() -> None:
    try:
        raise ValueError("many words " * 1000)
    except ValueError as error:
        assert len(describe(error)) < 600


# Trials in a store


def test_a_finished_trial_is_not_run_again(fresh: SmallTable) -> None:
    spec = spec_of(fresh)
    first = finish_trial(spec, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=True)
    again = finish_trial(spec, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=True)
    assert again == first  # with the same times
    assert fresh.store.record(spec.id, with_files=True) == first
    arrays = load_arrays(first, fresh.store)
    assert arrays["test/rank"].shape == (10,)
    state = load_checkpoint(spec, fresh.store)
    assert set(state) == {"embedding.weight", "output.weight", "output.bias"}


def test_a_failed_trial_is_not_run_again_either(fresh: SmallTable) -> None:
    spec = spec_of(fresh, "raises")
    first = finish_trial(spec, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=True)
    assert first.status == "failed"
    assert finish_trial(spec, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=True) == first


def test_a_checkpoint_is_kept_when_it_is_wanted(fresh: SmallTable) -> None:
    spec = spec_of(fresh)
    without = finish_trial(spec, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=False)
    assert set(without.files) == {ARRAYS}
    with_it = finish_trial(spec, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=True)
    assert set(with_it.files) == {ARRAYS, CHECKPOINT}
    assert with_it.metrics == without.metrics
    assert finish_trial(spec, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=False) == with_it


@pytest.mark.parametrize("name", ["result.json", ARRAYS])
def test_a_damaged_file_makes_a_trial_run_again(name: str, fresh: SmallTable) -> None:
    spec = spec_of(fresh)
    first = finish_trial(spec, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=False)
    path = fresh.folder / "runs" / spec.id / name
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)
    again = finish_trial(spec, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=False)
    assert again.metrics == first.metrics
    assert fresh.store.record(spec.id, with_files=True) == again


def test_what_was_left_of_an_interrupted_trial_is_removed(fresh: SmallTable) -> None:
    spec = spec_of(fresh)
    folder = fresh.folder / "runs" / spec.id
    folder.mkdir(parents=True)
    (folder / "arrays.npz.partial").write_bytes(b"half")
    finish_trial(spec, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=False)
    assert sorted(path.name for path in folder.iterdir()) == [ARRAYS, "result.json"]


# Trials that start from others


def test_a_trial_that_starts_from_another_has_its_parameters(fresh: SmallTable) -> None:
    start = spec_of(fresh)
    spec = spec_of(fresh, parameters={"learning_rate": 0.5}, start=start)
    first = finish_trial(start, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=True)
    record = finish_trial(spec, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=True)
    assert record.status == "finished"
    assert record.metrics["test/recall@5"] == first.metrics["test/recall@5"]


def test_a_trial_that_starts_on_other_data_knows_no_users(tmp_path: Path) -> None:
    """A state without users fits the one method then, and not the one that starts on the same data."""
    dataset = written(leave_one_out_contents(), tmp_path / "small")
    catalog = MethodCatalog(Path(__file__).parents[2] / "search_spaces")
    state = Caser(dataset.schema.items, dataset.schema.history_length, size=8).state_dict()
    common: dict[str, Any] = {"task": "next_item", "dataset": dataset.name, "method": "caser", "versions": {}}
    common |= {"parameters": {"size": 8}, "seed": 0, "threads": 1, "purpose": "repeat"}
    errors = []
    for started_on in ("elsewhere", dataset.hash):
        start = TrialSpec(**common, dataset_hash=started_on)
        spec = TrialSpec(**common, dataset_hash=dataset.hash, starts_from=start)
        errors.append(run_trial(spec, dataset, catalog, state)[0].error)
    assert errors[0] == ""
    assert "user.weight" in errors[1]


def test_a_start_that_is_missing_or_failed_is_named(fresh: SmallTable) -> None:
    start = spec_of(fresh, "raises")
    spec = spec_of(fresh, start=start)
    store = fresh.store

    def error() -> str:
        store.remove(spec.id)
        record = finish_trial(spec, fresh.dataset, fresh.catalog, store, keep_checkpoint=True)
        assert record.status == "failed"
        return record.error

    assert error() == f"the trial it starts from ({start.id}) is not finished"
    store.write(made_result(start), {})
    assert error() == f"the trial it starts from ({start.id}) left no checkpoint"
    store.remove(start.id)
    store.write(failed_record(start, "it was too warm"), {})
    assert error() == f"the trial it starts from ({start.id}) failed: it was too warm"
    with pytest.raises(TrialError, match="too warm"):
        load_checkpoint(start, store)


def test_a_start_of_another_shape_fails_with_one_line(fresh: SmallTable) -> None:
    start = spec_of(fresh, parameters={"size": 8})
    finish_trial(start, fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=True)
    record = finish_trial(spec_of(fresh, start=start), fresh.dataset, fresh.catalog, fresh.store, keep_checkpoint=True)
    assert record.status == "failed"
    assert "size mismatch" in record.error
    assert "\n" not in record.error


# Whole tables, in this process


def test_a_table_runs_without_ray(fresh: SmallTable) -> None:
    schedule = fresh.schedule()
    seen: list[int] = []
    run_here(schedule, fresh.places, lambda schedule: seen.append(len(schedule.finished)))
    assert schedule.done
    assert seen == list(range(1, 8))
    assert {result.status for result in schedule.lines[0].results.values()} == {"finished"}
    again = fresh.schedule()
    run_here(again, fresh.places, lambda schedule: pytest.fail("there was something to run"))
    assert again.lines[0].results == schedule.lines[0].results


def test_a_cold_start_table_shares_its_pretrained_backbone(tmp_path: Path) -> None:
    small = small_cold_start(tmp_path, seeds=[0, 1], search={"trials": 1})
    schedule = small.schedule()
    run_here(schedule, small.places, lambda schedule: None)
    assert schedule.done
    assert [line.problem for line in schedule.lines] == ["", ""]
    for line in schedule.lines:
        assert [line.results[spec.id].error for spec in line.repeats.values()] == ["", ""]
        assert all("test/cold/auc" in result.metrics for result in line.results.values())
    bare, plain = (line.repeats[0] for line in schedule.lines)
    assert plain.starts_from == bare
    cold = [schedule.lines[i].results[spec.id].metrics["test/cold/auc"] for i, spec in enumerate((bare, plain))]
    assert all(0 <= value <= 1 for value in cold)


def test_a_row_that_fails_does_not_stop_the_others(tmp_path: Path) -> None:
    rows = [{"name": "Bad", "method": "raises"}, {"name": "Last", "method": "last_item", "parameters": {"size": 2}}]
    small = small_next_item(tmp_path, rows=rows, search={"trials": 2}, seeds=[0])
    schedule = small.schedule()
    run_here(schedule, small.places, lambda schedule: None)
    assert schedule.done
    bad, good = ([result.status for result in line.results.values()] for line in schedule.lines)
    assert (bad, good) == (["failed"], ["finished"])


KILLED = """
import sys
from pathlib import Path
from harness.sweep import run_here
from tests.harness.small_table import SEQUENCES, SmallTable
small = SmallTable(Path(sys.argv[1]), SEQUENCES)
run_here(small.schedule(seeds=[0]), small.places, lambda schedule: None)
"""


def test_a_killed_trial_leaves_no_record_and_runs_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [
        {"name": "Last", "method": "last_item", "parameters": {"size": 2, "learning_rate": 0.1}},
        {"name": "Killed", "method": "kills_itself", "parameters": FAST},
    ]
    small = small_next_item(tmp_path, rows=rows)
    monkeypatch.delenv(SPARE, raising=False)
    assert in_another_process(KILLED, str(tmp_path)).returncode == -signal.SIGKILL
    before = small.schedule(seeds=[0])
    assert [(line.row.name, count) for line, purpose, count in before.remaining() if count] == [("Killed", 1)]
    kept = {trial_id: small.store.record(trial_id) for trial_id in small.store.ids()}
    monkeypatch.setenv(SPARE, "1")
    schedule = small.schedule(seeds=[0])
    run_here(schedule, small.places, lambda schedule: None)
    assert schedule.done
    assert [result.status for line in schedule.lines for result in line.results.values()] == ["finished"] * 2
    assert all(small.store.record(trial_id) == record for trial_id, record in kept.items() if record is not None)
