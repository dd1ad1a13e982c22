"""A table under Ray Tune, in a process of its own: a worker that dies, one that fails, and the others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from harness.capacity import Capacity, Node, Slots, check_workers_fit
from harness.errors import ClusterError
from harness.measured import Measured, read_measured
from harness.request import Request
from harness.schedule import Schedule
from harness.sweep import run_sweep, slots_of
from harness.tune_search import KILLED
from tests.doubles import SPARE
from tests.harness.small_table import TABLE, SmallTable, small_cold_start, small_next_item

pytestmark = pytest.mark.starts_ray

COMMAND = [sys.executable, "-m", "harness", "run", TABLE, "--cpus", "2"]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> SmallTable:
    folder = tmp_path_factory.mktemp("sweep")
    rows = [
        {"name": "Killed", "method": "kills_itself"},
        {"name": "Told", "method": "is_told_to_leave", "parameters": {"folder": str(folder)}},
        {"name": "Raises", "method": "raises"},
        {"name": "Last", "method": "last_item", "parameters": {"learning_rate": 0.1, "size": 4}},
    ]
    small = small_next_item(folder, rows=rows, seeds=[0])
    (small.places.results / TABLE / "published.csv").write_text("dataset,row,metric,value,flag\n")
    return small


def run(small: SmallTable, *arguments: str, spare: bool = False) -> subprocess.CompletedProcess[str]:
    environment = small.environment | ({SPARE: "yes"} if spare else {})
    command = [*COMMAND, *arguments]
    return subprocess.run(command, check=False, env=environment, capture_output=True, text=True, timeout=300)


def schedule_with(small: SmallTable, **changes: object) -> Schedule:
    datasets = {small.dataset_name: small.dataset}
    table = small.spec.model_copy(update=changes)
    return Schedule(Request(table, datasets, (), table.seeds, "tuned"), small.catalog, small.store)


def by_row(small: SmallTable) -> dict[str, list[Measured]]:
    rows: dict[str, list[Measured]] = {}
    for record in read_measured(small.places.results / TABLE / "measured.parquet"):
        rows.setdefault(record.row, []).append(record)
    return rows


def test_dead_and_failing_trials_are_recorded_and_do_not_stop_the_others(small: SmallTable) -> None:
    done = run(small)
    assert done.returncode == 1, done.stderr
    rows = by_row(small)
    assert [record.error for record in rows["Killed"]] == [KILLED]
    assert all("RuntimeError: the first line and the second" in record.error for record in rows["Raises"])
    assert [record.status for record in rows["Last"]] == ["finished"]
    assert [record.error for record in rows["Told"]] == [""], "a process that is told to leave leaves its trial"
    assert "failed" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_failed_trials_run_again_on_request_alone(small: SmallTable) -> None:
    assert run(small, spare=True).returncode == 1
    assert {record.status for record in by_row(small)["Killed"]} == {"failed"}
    assert run(small, "--retry-failed", "--methods", "Killed", spare=True).returncode == 0
    assert {record.status for record in by_row(small)["Killed"]} == {"finished"}


def test_ray_and_this_process_give_the_same_bits(small: SmallTable, tmp_path: Path) -> None:
    measured = {record.seed: record.metrics for record in by_row(small)["Last"]}
    assert run(small, "--serial", "--methods", "Last", "--store", str(tmp_path / "other")).returncode == 0
    assert {record.seed: record.metrics for record in by_row(small)["Last"]} == measured
    assert len(measured) == 1


def test_the_command_line_explains_itself_without_large_libraries() -> None:
    code = "import sys, harness.cli; print(*{'torch', 'ray', 'pandas', 'scipy', 'matplotlib'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == ""


def test_a_finished_table_starts_no_ray(small: SmallTable) -> None:
    code = "import sys, harness.cli\ntry: harness.cli.main()\nfinally: print('ray' in sys.modules)"
    arguments = ["run", TABLE, "--methods", "Last", "--cpus", "2"]
    assert run(small, "--methods", "Last").returncode == 0
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=False,
        env=small.environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert (done.returncode, done.stdout.split()[-1]) == (0, "False"), done.stderr


def test_trials_share_the_cluster_unless_each_is_to_be_alone(small: SmallTable) -> None:
    capacity = Capacity((Node(8), Node(8), Node(4)))
    assert slots_of(schedule_with(small), capacity) == Slots(20, 1)
    assert slots_of(schedule_with(small, threads=3), capacity) == Slots(5, 3)
    assert slots_of(schedule_with(small, threads=8, kind="timing"), capacity) == Slots(1, 8)


def test_slots_are_as_many_as_the_smallest_row_allows(tmp_path: Path) -> None:
    rows = [
        {"name": "Two", "method": "last_item", "threads": 2},
        {"name": "Three", "method": "last_item", "threads": 3},
    ]
    capacity = Capacity((Node(8), Node(8), Node(4)))
    small = small_next_item(tmp_path, rows=rows)
    assert slots_of(small.schedule(), capacity) == Slots(10, 2)
    assert slots_of(small.schedule(rows=["Three"]), capacity) == Slots(5, 3)


def test_a_row_with_more_threads_than_any_node_is_refused(tmp_path: Path) -> None:
    rows = [{"name": "One", "method": "last_item"}, {"name": "Nine", "method": "last_item", "threads": 9}]
    small = small_next_item(tmp_path, rows=rows)
    with pytest.raises(ClusterError, match="a trial asks for 9 CPUs, the largest node has 8; set threads lower"):
        run_sweep(small.schedule(), small.places, Capacity((Node(8), Node(8), Node(4))), lambda schedule: None)


def test_streamed_trials_take_a_cpu_more_than_their_workers_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capacity = Capacity((Node(8), Node(8), Node(4)))
    small = small_cold_start(tmp_path)
    assert slots_of(schedule_with(small), capacity) == Slots(20, 1)
    assert slots_of(schedule_with(small, workers=2, threads=2), capacity) == Slots(4, 2)
    assert slots_of(schedule_with(small, feed="stream"), capacity) == Slots(10, 1)
    monkeypatch.setattr("harness.feeds.RESIDENT_BYTES", 1000)  # so that `auto` streams
    assert slots_of(schedule_with(small), capacity) == Slots(10, 1)


def test_gpus_limit_the_trials_that_run_at_a_time(small: SmallTable, tmp_path: Path) -> None:
    capacity = Capacity((Node(8, 2), Node(8, 1), Node(4)))
    assert slots_of(schedule_with(small, gpus=0.25), capacity) == Slots(12, 1)
    assert slots_of(schedule_with(small_cold_start(tmp_path), gpus=1, workers=2), capacity) == Slots(1, 1)
    check_workers_fit(capacity, workers=3, threads=1, gpus=1)
    with pytest.raises(ClusterError, match="4 workers with 1 GPUs each ask for 4 GPUs, the cluster has 3; set workers"):
        check_workers_fit(capacity, workers=4, threads=1, gpus=1)
