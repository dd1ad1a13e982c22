"""A run that is killed, and the run that finishes it: with Ray, in processes of their own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from harness.measured import read_measured
from harness.store import RECORD, Store
from tests.harness.small_table import SEQUENCES, TABLE, SmallTable, small_next_item

pytestmark = pytest.mark.starts_ray

COMMAND = [sys.executable, "-m", "harness", "run", TABLE, "--cpus", "2"]
SEARCHED, SEEDS = 4, 3


def lay_out(folder: Path) -> SmallTable:
    rows = [
        {"name": "A", "method": "sleeps", "parameters": {"maximum_epochs": 1}},
        {"name": "B", "method": "sleeps", "parameters": {"maximum_epochs": 2}},
    ]
    small = small_next_item(folder, rows=rows, reference="A", search={"trials": SEARCHED, "parallel": 2, "seed": 1})
    small.add_method("sleeps", "tests.doubles:Sleeps", space={"seconds": {"low": 0.3, "high": 0.6}})
    (small.places.results / TABLE / "published.csv").write_text("dataset,row,metric,value,flag\n")
    return small


def finished(folder: Path) -> dict[str, int]:
    """Return the finished trials with the time at which each was written."""
    return {path.parent.name: path.stat().st_mtime_ns for path in (folder / "runs").glob(f"*/{RECORD}")}


def wait_for(condition, process: subprocess.Popen, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    environment = lay_out(folder).environment
    subprocess.run(COMMAND, env=environment, check=True, capture_output=True, timeout=300)
    return folder


def test_killed_run_is_finished_by_the_same_command(undisturbed: Path, tmp_path: Path) -> None:
    environment = lay_out(tmp_path).environment
    first = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(finished(tmp_path)) >= 3, first, 120)

    first.send_signal(signal.SIGKILL)
    first.communicate()
    time.sleep(1.5)  # workers of the killed run may write the trials that they were in the middle of
    before = finished(tmp_path)
    whole = finished(undisturbed)
    assert 3 <= len(before) < len(whole)
    assert not (tmp_path / "results" / TABLE / "measured.parquet").exists()

    second = subprocess.run(COMMAND, check=False, env=environment, capture_output=True, text=True, timeout=300)
    assert second.returncode == 0, second.stderr
    after = finished(tmp_path)
    assert {name: after[name] for name in before} == before, "a finished trial was run again"
    assert set(after) == set(whole)

    table, reference = tmp_path / "results" / TABLE, undisturbed / "results" / TABLE
    assert (table / "table.md").read_text() == (reference / "table.md").read_text()
    metrics = [[record.metrics for record in read_measured(place / "measured.parquet")] for place in (table, reference)]
    assert metrics[0] == metrics[1]
    assert len(metrics[0]) == 2 * SEEDS


def test_an_interruption_is_one_line_and_not_a_success(undisturbed: Path, tmp_path: Path) -> None:
    environment = lay_out(tmp_path).environment
    first = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(finished(tmp_path)) >= 2, first, 120)
    first.send_signal(signal.SIGINT)
    out, error = first.communicate(timeout=120)
    assert first.returncode == 130, error
    assert "interrupted; what is finished stays, the same command goes on from there" in error
    assert "Traceback" not in out + error
    assert not (tmp_path / "results" / TABLE / "measured.parquet").exists()
    assert set(finished(tmp_path)) < set(finished(undisturbed))


def test_search_reads_validation_and_repeats_read_test(undisturbed: Path) -> None:
    store = Store(undisturbed / "runs")
    records = [store.record(trial_id) for trial_id in store.ids()]
    searches = [record for record in records if record.spec.purpose == "search"]
    repeats = [record for record in records if record.spec.purpose == "repeat"]
    assert len(repeats) == 2 * SEEDS
    assert 0 < len(searches) <= 2 * SEARCHED
    assert not any(name.startswith("test/") for record in searches for name in record.metrics)
    assert all("test/recall@5" in record.metrics for record in repeats)


def test_finished_run_has_nothing_to_do(undisturbed: Path) -> None:
    environment = SmallTable(undisturbed, SEQUENCES).environment
    before = finished(undisturbed)
    content = (undisturbed / "results" / TABLE / "measured.parquet").read_bytes()
    subprocess.run(COMMAND, env=environment, check=True, capture_output=True, timeout=120)
    assert finished(undisturbed) == before
    assert (undisturbed / "results" / TABLE / "measured.parquet").read_bytes() == content
