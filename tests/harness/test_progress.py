"""What a run shows while it goes on: one line a trial, and the table of a terminal."""

from __future__ import annotations

import io
from pathlib import Path

from harness.console import plain_console
from harness.progress import Progress
from harness.trial import failed_record
from tests.harness.small_table import SmallTable, small_next_item

ODD = "Last [/b] [red] :100:"
ERROR = "KeyError: [/x] is not in [bold] :100: (a.py, line 3)"


def small_of_an_odd_name(folder: Path) -> SmallTable:
    rows = [{"name": ODD, "method": "last_item", "parameters": {"size": 2, "learning_rate": 0.1}}]
    return small_next_item(folder, rows=rows, seeds=[0])


def test_errors_and_names_are_printed_as_they_are(tmp_path: Path) -> None:
    small, out = small_of_an_odd_name(tmp_path), io.StringIO()
    schedule = small.schedule()
    with Progress(schedule, [], 1, plain_console(file=out)) as watch:
        job = schedule.next_job()
        assert job is not None
        schedule.finish(failed_record(job.spec, ERROR))
        watch(schedule)
    label = f"{small.dataset_name} · {ODD} · seed 0"
    assert out.getvalue().startswith(f"{label}: failed: {ERROR}, 0.0 s")


def test_the_table_of_a_terminal_shows_names_as_they_are(tmp_path: Path) -> None:
    schedule, out = small_of_an_odd_name(tmp_path).schedule(), io.StringIO()
    console = plain_console(file=out, width=200)
    progress = Progress(schedule, [], 1, console)
    assert schedule.next_job() is not None
    console.print(progress._table())
    assert " ".join(out.getvalue().split()).count(ODD) == 2, "its row, and below the table what is running"
