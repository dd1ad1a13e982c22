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
from tests.small_checkout import TABLE, process_environment, write_checkout

COMMAND = [sys.executable, "-m", "harness", "run", TABLE, "--cpus", "2"]
SEARCHED, SEEDS = 4, 3


def lay_out(folder: Path) -> dict[str, str]:
    rows = [
        {"name": name, "method": "sleeping", "parameters": {"seconds": seconds, "maximum_epochs": 1}}
        for name, seconds in (("A", 0.4), ("B", 0.5))
    ]
    return process_environment(write_checkout(folder, rows, table={"reference": "A"}))


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
    environment = lay_out(folder)
    subprocess.run(COMMAND, env=environment, check=True, capture_output=True, timeout=300)
    return folder


def test_killed_run_is_finished_by_the_same_command(undisturbed: Path, tmp_path: Path) -> None:
    environment = lay_out(tmp_path)
    first = subprocess.Popen(COMMAND, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: len(finished(tmp_path)) >= 3, first, 120)

    second = subprocess.run(COMMAND, check=False, env=environment, capture_output=True, text=True, timeout=120)
    assert second.returncode == 2
    assert "another run is at work on it" in second.stderr
    assert second.stderr.count("\n") == 1

    first.send_signal(signal.SIGKILL)
    first.communicate()
    time.sleep(1.5)  # workers of the killed run may write the trials that they were in the middle of
    before = finished(tmp_path)
    whole = finished(undisturbed)
    assert 3 <= len(before) < len(whole)
    assert not (tmp_path / "results" / TABLE / "measured.parquet").exists()

    third = subprocess.run(COMMAND, check=False, env=environment, capture_output=True, text=True, timeout=300)
    assert third.returncode == 0, third.stderr
    after = finished(tmp_path)
    assert {name: after[name] for name in before} == before, "a finished trial was run again"
    assert set(after) == set(whole)

    table, reference = tmp_path / "results" / TABLE, undisturbed / "results" / TABLE
    assert (table / "table.md").read_text() == (reference / "table.md").read_text()
    metrics = [[record.metrics for record in read_measured(place / "measured.parquet")] for place in (table, reference)]
    assert metrics[0] == metrics[1]
    assert len(metrics[0]) == 2 * SEEDS


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
    variables = {"DIFFBENCH_HOME": undisturbed, "DIFFBENCH_RESULTS": undisturbed / "results"}
    variables |= {"DIFFBENCH_SEARCH_SPACES": undisturbed / "search_spaces"}
    environment = process_environment({name: str(path) for name, path in variables.items()})
    before = finished(undisturbed)
    content = (undisturbed / "results" / TABLE / "measured.parquet").read_bytes()
    subprocess.run(COMMAND, env=environment, check=True, capture_output=True, timeout=120)
    assert finished(undisturbed) == before
    assert (undisturbed / "results" / TABLE / "measured.parquet").read_bytes() == content
