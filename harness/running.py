"""What the commands `run`, `plan` and `show` do."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table as TextTable

from harness.datasets import catalog as datasets
from harness.estimate import known_trials, left, wall_seconds
from harness.measured import Measured, read_measured, write_measured
from harness.places import Places
from harness.progress import Progress, spoken
from harness.projections import FILE, Projection, read_projections, write_projections
from harness.schedule import Schedule
from harness.store import Store
from harness.table_specs import TableSpec, find_table
from harness.tablerun import Options, TableRun, check_metrics, measured_trials, merged_groups, open_run, open_schedule
from harness.tables import Table, build_table, read_published, to_markdown
from harness.tables.counts import count
from harness.trial import checkpoint_seconds

Say = Callable[[str], None]


def run_table(
    options: Options, here: Places, say: Say, *, address: str | None, cpus: int | None, serial: bool
) -> tuple[TableRun, int]:
    """Run what is missing of a table and write what was measured; return it with the number of failures.

    Raises:
        DiffbenchError: the table, its data, the store or the cluster cannot be used as asked.
    """
    run = open_run(options, here, say)
    for name, reason in run.missing.items():
        say(f"{name}: no data: {reason}")
    read_published(run.folder / "published.csv", run.spec)
    if run.spec.kind == "statistics":
        keep(run, [count(dataset) for dataset in run.request.datasets.values()], here, say)
        return run, 0
    store = Store(here.store)
    store.check_writable()
    checkpoint_seconds(0)  # refused here once, not by every trial
    with store.claim(f"table {options.table}", wait=False):
        schedule = open_schedule(run, here)
        if any(part.trials for part in left(schedule, ())):
            _sweep(schedule, here, store, address=address, cpus=cpus, serial=serial)
        projections = _projections(run, schedule, store)
        keep(run, measured_trials(schedule, store), here, say, projections)
    problems = [f"{line.dataset.name}, {line.row.name}: {line.problem}" for line in schedule.lines if line.problem]
    for problem in problems:
        say(problem)
    failed = sum(result.status == "failed" for line in schedule.lines for result in line.results.values())
    return run, failed + len(problems)


def plan_table(options: Options, here: Places, say: Say, *, cpus: int | None) -> TextTable:
    """Return what a run would do, with the time that trials like it took."""
    run = open_run(options, here, say)
    if run.spec.kind == "statistics":
        return _plan_of_counts(run)
    schedule = open_schedule(run, here)
    parts = left(schedule, known_trials(Store(here.store)))
    table = TextTable("dataset", "method", "what", "trials", "time of all", box=None, pad_edge=False)
    for part in parts:
        seconds = "not known yet" if part.seconds is None else spoken(part.seconds)
        table.add_row(part.dataset, part.row, part.purpose, str(part.trials), seconds if part.trials else "–")
    slots = 1 if run.spec.alone else max(1, (cpus or os.cpu_count() or 1) // run.spec.threads)
    total = wall_seconds(parts, slots)
    trials = sum(part.trials for part in parts)
    known = "known once a trial of each method has run" if total is None else f"about {spoken(total)}"
    table.caption = f"{trials} trials, {slots} at a time: {known}"
    return table


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


def table_of_run(run: TableRun, here: Places) -> Table:
    """Return the table after a run: its folder's, or the run's own trials when options changed the table."""
    if not run.changed:
        return open_table(run.name, here)
    records = measured_trials(_refreshed(run, here), Store(here.store))
    return build(run.spec, run.folder, records, here)


def build(spec: TableSpec, folder: Path, measured: list[Measured], here: Places) -> Table:
    """Build a table from a spec, the published cells of its folder, and measured trials."""
    published = read_published(folder / "published.csv", spec)
    available = {record.dataset for record in measured}
    available |= {name for name in datasets.dataset_names() if datasets.find(name).tried}
    projections = read_projections(folder / FILE) if spec.kind == "projection" else ()
    return build_table(spec, published, measured, available, projections)


def keep(
    run: TableRun, records: list[Measured], here: Places, say: Say, projections: Sequence[Projection] = ()
) -> None:
    """Merge a run's trials into its table's folder and write the table anew; changed tables are only shown."""
    if run.changed:
        say("options change the table: shown below, not kept in its folder")
        return
    path = run.folder / "measured.parquet"
    merged, kept_old = merged_groups(read_measured(path), records, run.spec.seeds)
    for line in kept_old:
        say(line)
    write_measured(path, merged)
    if projections:
        old = {one.place: one for one in read_projections(run.folder / FILE)}
        write_projections(run.folder / FILE, (old | {one.place: one for one in projections}).values())
    write_shown(run.name, here)


def write_shown(name: str, here: Places) -> None:
    """Write `table.md` and the pictures of a table from what its folder has; equal trials give equal files."""
    from harness.figures import write_figures  # not above: a sweep starts earlier without matplotlib

    _, folder = find_table(name, here.results)
    table = open_table(name, here)
    (folder / "table.md").write_text(to_markdown(table), encoding="utf-8")
    write_figures(table, folder)


def _projections(run: TableRun, schedule: Schedule, store: Store) -> list[Projection]:
    if run.spec.kind != "projection" or run.changed:
        return []
    from harness.item_embeddings import project

    return project(schedule, store, read_projections(run.folder / FILE))


def _refreshed(run: TableRun, here: Places) -> Schedule:
    schedule = open_schedule(run, here)
    for _ in schedule.remaining():
        pass  # takes in what the store has
    return schedule


def _sweep(
    schedule: Schedule, here: Places, store: Store, *, address: str | None, cpus: int | None, serial: bool
) -> None:
    from harness.cluster import connected
    from harness.sweep import run_here, run_sweep, slots_of

    table = schedule.request.table
    known = known_trials(store)
    console = Console(stderr=True)
    # On one machine, this process without Ray's beside it is as alone as a trial can be.
    if serial or (table.alone and not (address or os.environ.get("RAY_ADDRESS"))):
        with Progress(schedule, known, 1, console) as watch:
            run_here(schedule, here, watch)
        return
    ahead = table.feed != "stream"
    with connected(address, cpus=cpus, checkout=here.checkout, imports_ahead=ahead) as capacity:
        slots = float(slots_of(table, capacity).trials)
        with Progress(schedule, known, slots, console) as watch:
            run_sweep(schedule, here, capacity, watch)
