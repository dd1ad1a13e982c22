"""Running a table: what to ask for, the sweep, and the measured trials that its folder keeps."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from harness.datasets import catalog as datasets
from harness.datasets.large.synthesis.names import UNASKED_ROWS, GeneratedDataset
from harness.datasets.prepared import PreparedDataset, check_undamaged, open_prepared
from harness.errors import DataError, InputError, NoDataError, did_you_mean
from harness.measured import Measured
from harness.methods import MethodCatalog
from harness.metrics.calibration import diagram_of
from harness.options import chosen_names, chosen_rows, chosen_seeds, with_overrides
from harness.places import Places
from harness.record import INFERENCE, TrialResult
from harness.request import Line, Request
from harness.schedule import Schedule
from harness.specs import Selection
from harness.store import Store
from harness.table_specs import TableSpec, find_table
from harness.tables.counts import COUNTS
from harness.tables.model import RELATIVE
from harness.tasks import load_task
from harness.training_curve import BEST, TIMES, inference_time, training_curve, training_metrics
from harness.trial import load_arrays

TEST_RANKS, TEST_RELIABILITY = "test/rank", "test/reliability"
_TRAINING = ("timing", "convergence")
"""Kinds that show what trials log while they train."""


@dataclass(frozen=True)
class Options:
    """What a user asks for of a table; None stands for all of it."""

    table: str
    datasets: str | None = None
    methods: str | None = None
    seeds: str | None = None
    published: bool = False
    overrides: tuple[str, ...] = ()
    retry_failed: bool = False


@dataclass(frozen=True)
class TableRun:
    """A table with the part of it that is to run.

    `changed` tells that options replace what the table says, so that the results are not the table's own.
    """

    name: str
    spec: TableSpec
    folder: Path
    request: Request
    missing: dict[str, str]
    changed: bool


def open_run(options: Options, places: Places, say: Callable[[str], None]) -> TableRun:
    """Find the table, apply the options, and open or prepare its datasets.

    A dataset that the user names has to be there; of all others, those without data are left out and listed in
    `missing` with the reason. What cannot be read or prepared though it is there, or could be fetched, is an error.

    Raises:
        InputError: a name or value of the options or the table does not fit.
        DataError: a named dataset is not there, one that is there cannot be read or prepared, or none is there.
    """
    own, folder = find_table(options.table, places.results)
    spec, overrides = with_overrides(own, options.overrides)
    check_metrics(spec)
    if spec.kind == "statistics" and overrides:
        raise InputError(f"--set {next(iter(overrides))}: {options.table} counts datasets, no trial has parameters")
    # What a method's batch costs is asked of the parameters that it is known by; nothing is searched for it.
    selection: Selection = "published" if options.published or spec.kind == "timing" else "tuned"
    rows, seeds = chosen_rows(options.methods, spec.rows), chosen_seeds(options.seeds, spec)
    prepared: dict[str, PreparedDataset] = {}
    missing: dict[str, str] = {}
    for name in chosen_names("--datasets", options.datasets, spec.datasets):
        try:
            prepared[name] = _open_dataset(name, places, say, asked=options.datasets is not None)
        except NoDataError as error:
            if options.datasets is not None:
                raise
            missing[name] = str(error)
        except DataError as error:
            if options.datasets is not None:
                raise
            raise DataError(f"{error}; or run without {name}: name the others with --datasets") from None
    if not prepared:
        raise DataError(f"{options.table}: no dataset has data; " + "; ".join(missing.values()))
    pretraining: dict[str, PreparedDataset] = {}
    for name in dict.fromkeys(name for row in rows for name in spec.row(row).pretrained_on):
        if name not in prepared and name not in missing:
            try:
                pretraining[name] = _open_dataset(name, places, say, asked=False)
            except NoDataError as error:
                missing[name] = str(error)
    request = Request(
        table=spec,
        datasets=prepared,
        rows=rows,
        seeds=seeds,
        selection=selection,
        overrides=overrides,
        retry_failed=options.retry_failed,
        pretraining=pretraining,
    )
    return TableRun(options.table, spec, folder, request, missing, changed=spec != own or bool(overrides))


def check_metrics(spec: TableSpec) -> None:
    """Check that the task measures every metric that a table asks for; RelaImpr follows from an AUC.

    Timings and convergences also have what the trials' curves give.

    Raises:
        InputError: a metric is unknown.
    """
    measured = COUNTS if spec.kind == "statistics" else load_task(spec.task).metrics
    derived = [name.removesuffix("auc") + RELATIVE for name in measured if name.split("/")[-1] == "auc"]
    if spec.kind in _TRAINING:
        derived += [*TIMES, *BEST]
    for metric in spec.metrics:
        if metric not in (*measured, *derived):
            raise InputError(f"metrics: unknown metric {metric!r}{did_you_mean(metric, (*measured, *derived))}")


def open_schedule(run: TableRun, places: Places) -> Schedule:
    """Return the schedule of a run over its store."""
    return Schedule(run.request, MethodCatalog(places.search_spaces), Store(places.store))


def measured_trials(schedule: Schedule, store: Store) -> list[Measured]:
    """Return the repeats that have a result, as the table's folder keeps them."""
    return [
        _measured(line, seed, line.results[spec.id], schedule, store)
        for line in schedule.lines
        for seed, spec in line.repeats.items()
        if spec.id in line.results
    ]


def search_trials(schedule: Schedule) -> Iterator[tuple[Line, int, TrialResult]]:
    """Yield every search trial that has a result, with its line and number."""
    for line in schedule.lines:
        for number, asked in enumerate(line.study.asked if line.study else []):
            result = schedule.known(asked.spec.id)
            if result is not None:
                yield line, number, result


def _open_dataset(name: str, places: Places, say: Callable[[str], None], *, asked: bool) -> PreparedDataset:
    """Open a dataset, preparing it where that is still to do; a prepared one need not be in the catalog.

    Raises:
        InputError: it was asked for by name, and is neither in the catalog nor prepared.
        NoDataError: it has no data; or it was not asked for by name, and is a large one that is still to be generated
            or not in the catalog.
        DataError: it cannot be read or prepared.
    """
    folder = places.data / "prepared" / name
    try:
        dataset = datasets.find(name)
    except InputError as error:
        if (folder / "schema.json").is_file():
            return open_prepared(folder)
        if asked:
            raise
        raise NoDataError(str(error)) from None
    if datasets.status(name, places.data) == "prepared":
        return datasets.open_dataset(name, places.data)
    if isinstance(dataset, GeneratedDataset) and dataset.generated_rows > UNASKED_ROWS and not asked:
        check_undamaged(folder)
        raise NoDataError(f"{name}: not generated, which takes minutes; run `diffbench data prepare {name}`")
    say(f"preparing {name}")
    return datasets.prepare(name, places.data)


def _measured(line: Line, seed: int, result: TrialResult, schedule: Schedule, store: Store) -> Measured:
    arrays = load_arrays(result, store)
    ranks, diagram = arrays.get(TEST_RANKS), arrays.get(TEST_RELIABILITY)
    table = schedule.request.table
    primary = load_task(table.task).primary
    logged = _logged(result, table, primary)
    timed = table.alone or (INFERENCE in table.metrics and bool(logged))
    measured = Measured(
        dataset=line.dataset.name,
        row=line.row.name,
        selection=line.selection,
        seed=seed,
        trial_id=result.id,
        status=result.status,
        error=result.error,
        parameters=json.dumps(line.parameters, sort_keys=True),
        setup=result.spec.setup,
        metrics=result.metrics | logged,
        ranks=None if ranks is None else tuple(ranks.tolist()),
        data_hash=result.spec.dataset_hash,
        data_note=result.data_note,
        code_hash=result.code_hash,
        wall_seconds=result.wall_seconds,
        cpu_seconds=result.cpu_seconds,
        peak_memory_bytes=result.peak_memory_bytes,
        threads=result.spec.threads,
        environment=_where(result) if timed else "",
        curve=training_curve(result, primary) if table.kind == "convergence" else None,
        reliability=None if diagram is None or table.drawing != "reliability" else diagram_of(diagram),
    )
    study = line.searched
    if study is None:
        return measured
    return replace(
        measured,
        search_trials=study.budget,
        search_distinct=study.distinct,
        search_failed=study.failed,
        space_hash=line.method.space_hash,
    )


def _logged(result: TrialResult, table: TableSpec, primary: str) -> dict[str, float]:
    """Return what a table shows of a trial that stands in its curves alone."""
    if table.kind in _TRAINING:
        return training_metrics(result, primary)
    return inference_time(result) if INFERENCE in table.metrics else {}


def _where(result: TrialResult) -> str:
    """Return what a measured time depends on beside the program."""
    if result.environment is None:
        return ""
    where = result.environment
    threads = f"{where.threads} thread{'s' if where.threads > 1 else ''}"
    device = f"{where.processor}, {where.gpu}" if where.gpu else where.processor
    return f"{device}, {threads}, torch {where.torch}"
