"""What the command `tensorboard` does: event files for tables from the store, then the server."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from harness import tensorboard
from harness.errors import DiffbenchError, InputError
from harness.measured import read_measured
from harness.places import Places
from harness.running import open_table
from harness.store import Store
from harness.table_specs import find_table
from harness.tablerun import Options, open_run, open_schedule, search_trials
from harness.tables import to_markdown
from harness.tensorboard import TrialEntry

Say = Callable[[str], None]


def browse(names: tuple[str, ...], here: Places, *, port: int, serve: bool, say: Say) -> None:
    """Write the event files of tables, of all that have trials when none is named, and serve them on this machine.

    Raises:
        InputError: a table is unknown, none has trials, or the port is taken.
        StoreError: the store cannot be read, or the files not written.
    """
    chosen = names or tuple(_measured_tables(here.results))
    if not chosen:
        raise InputError("no table has trials yet; run one first, for example `diffbench run quickstart/ml-100k`")
    for name in chosen:
        written = write_table(name, here, say)
        say(f"{name}: {written} runs written")
    if serve:
        tensorboard.serve(here.tensorboard, port)


def write_table(name: str, here: Places, say: Say) -> int:
    """Write a table's repeats, studies and summary; return the number of runs that were not there yet."""
    table = open_table(name, here)
    store = Store(here.store)
    repeats = list(_repeats(name, here, store))
    searched = sorted({entry.dataset for entry in repeats})
    entries = [*repeats, *(_searches(name, searched, here, say) if searched else ())]
    written = tensorboard.write_trials(name, entries, store, here.tensorboard)
    tensorboard.write_studies(here.tensorboard)
    tensorboard.write_summary(name, table, to_markdown(table), here.tensorboard)
    return written


def _measured_tables(results: Path) -> Iterator[str]:
    for path in sorted(results.glob("*/*/measured.parquet")):
        yield str(path.parent.relative_to(results))


def _repeats(name: str, here: Places, store: Store) -> Iterator[TrialEntry]:
    _, folder = find_table(name, here.results)
    for measured in read_measured(folder / "measured.parquet"):
        result = store.record(measured.trial_id)
        if result is not None:  # trials of another store have no curves here; the table still counts them
            yield TrialEntry(result, measured.dataset, measured.row, measured.selection)


def _searches(name: str, datasets: Sequence[str], here: Places, say: Say) -> Iterator[TrialEntry]:
    try:
        schedule = open_schedule(open_run(Options(name, datasets=",".join(datasets)), here, say), here)
    except DiffbenchError as error:
        say(f"{name}: its studies are left out: {error}")
        return
    for _ in schedule.remaining():
        pass  # takes in what the store has
    for line, number, result in search_trials(schedule):
        asked = line.study.asked[number] if line.study else None
        parameters = asked.parameters if asked else {}
        yield TrialEntry(result, line.dataset.name, line.row.name, "tuned", number, parameters)
