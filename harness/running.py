"""What the commands `run`, `plan` and `show` do."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.table import Table as TextTable

from harness.capacity import machine
from harness.cluster import connected
from harness.console import plain_console
from harness.datasets import catalog as datasets
from harness.datasets.writing import exclusive
from harness.errors import StoreError
from harness.estimate import known_trials, left, wall_seconds
from harness.item_embeddings import check_drawable, check_learned, project
from harness.measured import Measured, read_measured, write_measured
from harness.merging import merge_run
from harness.methods import MethodCatalog
from harness.places import Places
from harness.progress import Progress, spoken
from harness.projections import FILE, read_projections, write_projections
from harness.schedule import Schedule
from harness.store import Store
from harness.sweep import run_here, run_sweep, slots_of
from harness.table_specs import TableSpec, find_table
from harness.tablerun import Options, TableRun, check_metrics, measured_trials, open_run, open_schedule
from harness.tables import Table, build_table, read_published, to_markdown
from harness.tables.counts import count
from harness.trial import asked_seconds
from harness.whole_files import whole_file

Say = Callable[[str], None]


def run_table(
    options: Options, here: Places, say: Say, *, address: str | None, cpus: int | None, serial: bool
) -> tuple[Table, int]:
    """Run what is missing of a table and write what was measured; return the table with the number of failures.

    The table is that of its folder, or shows the run's own trials where they do not belong into it.

    Raises:
        DiffbenchError: the table, its data, the store or the cluster cannot be used as asked.
    """
    run = _opened(options, here, say)
    _check_folder(run)
    if run.spec.kind == "statistics":
        counted = [count(dataset) for dataset in run.request.datasets.values()]
        return build(run.spec, run.folder, keep(run, counted, here, say), here), 0
    if run.spec.kind == "projection":
        check_drawable(run.spec.drawing)
        check_learned(run.spec, MethodCatalog(here.search_spaces))
    store = Store(here.store)
    store.check_writable()
    asked_seconds()  # refused here once, not by every trial
    with store.claim(f"table {options.table}", wait=False):
        schedule = open_schedule(run, here)
        if any(part.trials for part in left(schedule, ())):
            _sweep(schedule, here, store, address=address, cpus=cpus, serial=serial)
        shown = keep(run, measured_trials(schedule, store), here, say)
        if run.spec.kind == "projection" and not run.changed:
            _keep_projections(run, schedule, store, here)
    problems = [f"{line.dataset.name}, {line.row.name}: {line.problem}" for line in schedule.lines if line.problem]
    for problem in problems:
        say(problem)
    failed = sum(line.failed for line in (*schedule.sources, *schedule.lines))
    return build(run.spec, run.folder, shown, here), failed + len(problems)


def _check_folder(run: TableRun) -> None:
    """Read all that the end of a run needs of its table's folder, before trials take their time.

    Raises:
        DiffbenchError: a file cannot be used as it is.
    """
    read_published(run.folder / "published.csv", run.spec)
    if not run.changed:
        read_measured(run.folder / "measured.parquet")
    if run.spec.kind == "projection":
        read_projections(run.folder / FILE)


def plan_table(options: Options, here: Places, say: Say, *, cpus: int | None) -> TextTable:
    """Return what a run would do, with the time that trials like it took."""
    run = _opened(options, here, say)
    if run.spec.kind == "statistics":
        return _plan_of_counts(run)
    schedule = open_schedule(run, here)
    parts = left(schedule, known_trials(Store(here.store)))
    table = TextTable("dataset", "method", "what", "trials", "time of all", box=None, pad_edge=False)
    for part in parts:
        seconds = "not known yet" if part.seconds is None else spoken(part.seconds)
        table.add_row(part.dataset, part.row, part.purpose, str(part.trials), seconds if part.trials else "–")
    slots = slots_of(schedule, machine(cpus)).trials
    total = wall_seconds(parts, slots)
    trials = sum(part.trials for part in parts)
    known = "known once a trial of each method has run" if total is None else f"about {spoken(total)}"
    table.caption = f"{trials} trials, {slots} at a time: {known}"
    return table


def _opened(options: Options, here: Places, say: Say) -> TableRun:
    """Open a run, and tell which datasets it leaves out."""
    run = open_run(options, here, say)
    for name, reason in run.missing.items():
        say(f"{name}: no data: {reason}")
    return run


def _plan_of_counts(run: TableRun) -> TextTable:
    table = TextTable("dataset", "what", "trials", box=None, pad_edge=False)
    for name in run.request.datasets:
        table.add_row(name, "counted", "0")
    return table


def open_table(name: str, here: Places) -> Table:
    """Return a table as its folder has it: published beside measured.

    Raises:
        DiffbenchError: a file of the folder cannot be used as written.
    """
    spec, folder = find_table(name, here.results)
    check_metrics(spec)
    return build(spec, folder, read_measured(folder / "measured.parquet"), here)


def build(spec: TableSpec, folder: Path, measured: list[Measured], here: Places) -> Table:
    """Build a table from a spec, the published cells of its folder, and measured trials."""
    published = read_published(folder / "published.csv", spec)
    available = {record.dataset for record in measured}
    available |= {name for name in datasets.dataset_names() if datasets.find(name).tried}
    projections = read_projections(folder / FILE) if spec.kind == "projection" else ()
    return build_table(spec, published, measured, available, projections)


def keep(run: TableRun, records: list[Measured], here: Places, say: Say) -> list[Measured]:
    """Merge a run's trials into its table's folder, write the table anew, and return what is to be shown of it.

    Trials of a table that options change, and those that do not go with what the folder keeps, are only shown.
    """
    if run.changed:
        say("options change the table: shown below, not kept in its folder")
        return records
    path = run.folder / "measured.parquet"
    with _held(run.folder):
        merged = merge_run(read_measured(path), records, run.spec.seeds)
        for line in merged.notes:
            say(line)
        write_measured(path, merged.kept)
        write_shown(run.name, here)
    return merged.shown


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold a table's folder, so that runs with different stores, which may end at once, lose nothing of each other's.

    Raises:
        StoreError: the folder cannot be written.
    """
    try:
        with exclusive(folder / ".lock"):
            yield
    except OSError as error:
        raise StoreError(f"{folder}: cannot be written ({error.strerror or error}); finished trials are kept") from None


def write_shown(name: str, here: Places) -> None:
    """Write `table.md` and the pictures of a table from what its folder has; equal trials give equal files.

    Raises:
        StoreError: they cannot be written.
    """
    from harness.figures import write_figures  # not above: a sweep starts earlier without matplotlib

    _, folder = find_table(name, here.results)
    table = open_table(name, here)
    try:
        with whole_file(folder / "table.md") as partial:
            partial.write_text(to_markdown(table), encoding="utf-8")
        write_figures(table, folder)
    except OSError as error:
        reason = error.strerror or error
        raise StoreError(f"{folder}: cannot be written ({reason}); what was measured is kept") from None


def _keep_projections(run: TableRun, schedule: Schedule, store: Store, here: Places) -> None:
    """Draw what the item embeddings of the kept trials show; those that are drawn already are not drawn again."""
    path = run.folder / FILE
    new = project(schedule, store, read_projections(path))
    with _held(run.folder):
        drawn = {one.place: one for one in read_projections(path)}
        kept = {record.trial_id for record in read_measured(run.folder / "measured.parquet")}
        drawn |= {one.place: one for one in new if one.trial_id in kept}
        write_projections(path, drawn.values())
        write_shown(run.name, here)


def _sweep(
    schedule: Schedule, here: Places, store: Store, *, address: str | None, cpus: int | None, serial: bool
) -> None:
    table = schedule.request.table
    known = known_trials(store)
    console = plain_console(stderr=True)
    # On one machine, this process without Ray's beside it is as alone as a trial can be.
    if serial or (table.alone and not (address or os.environ.get("RAY_ADDRESS"))):
        with Progress(schedule, known, 1, console) as watch:
            run_here(schedule, here, watch)
        return
    ahead = not schedule.streams
    with connected(address, cpus=cpus, checkout=here.checkout, imports_ahead=ahead) as capacity:
        slots = float(slots_of(schedule, capacity).trials)
        with Progress(schedule, known, slots, console) as watch:
            run_sweep(schedule, here, capacity, watch)
