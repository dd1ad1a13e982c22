"""Many studies and their repeats in one Ray Tune run.

A searcher of our own hands Tune what the schedule has ready, nothing while nothing is, and the end when all is done.
Trials put their results into the store themselves; Tune carries only the word that they ended.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from harness.capacity import Capacity, Node, Slots, check_fits, check_workers_fit, needs_of_streamed
from harness.datasets.prepared import open_prepared
from harness.errors import ClusterError, LostWorkersError, SharedError
from harness.interruption import Interruption
from harness.methods import MethodCatalog
from harness.places import Places
from harness.quick_imports import quick_imports
from harness.request import Job
from harness.schedule import Schedule
from harness.specs import TrialSpec
from harness.store import Store
from harness.trial import describe, failed_record, finish_trial

# Set before ray.tune is imported: no result files of its own, no state saved twice, quick polling, and an interruption
# that interrupts: Tune would end as if all had run.
_TUNE_ENVIRONMENT = {
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_AUTO_CALLBACK_SYNCER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_WARN_THRESHOLD_S": "1000",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_TRAIN_ENABLE_V2_MIGRATION_WARNINGS": "0",
}

Watch = Callable[[Schedule], None]
"""Called whenever the schedule may have changed: a progress display."""


def run_sweep(schedule: Schedule, places: Places, capacity: Capacity, watch: Watch) -> None:
    """Run everything that the schedule still wants.

    Raises:
        ClusterError: a trial asks for more than any node has, or the run was ended from outside.
        SharedError: the store could not be written, or a node lacks the data, room for it or a GPU; what was finished
            stays, and nothing is recorded as failed for it.
        KeyboardInterrupt: the user interrupted it.
    """
    table = schedule.request.table
    most = max((table.threads_of(line.row) for line in schedule.lines), default=table.threads)
    check_fits(capacity, cpus=most, gpus=table.gpus)
    check_workers_fit(capacity, table.workers, most, table.gpus)
    slots = slots_of(schedule, capacity)
    os.environ.update({key: os.environ.get(key, value) for key, value in _TUNE_ENVIRONMENT.items()})
    # With fewer trials pending than slots, a slot stays empty: its actor never starts when others end often.
    os.environ["TUNE_MAX_PENDING_TRIALS_PG"] = str(slots.trials)
    with quick_imports():
        from ray import tune

        from harness.tune_search import ScheduleSearcher, StepWatcher

    # A trial's failure is in its record; Tune would print its traceback over the progress display.
    for name in ("ray.tune", "ray.air"):
        logging.getLogger(name).setLevel(logging.CRITICAL)

    searcher = ScheduleSearcher(schedule, places, slots, capacity)
    interruption = Interruption()

    def after_step() -> None:
        interruption.check()
        watch(schedule)

    scratch = Path(tempfile.mkdtemp(prefix="diffbench-tune-"))
    trainable = tune.with_resources(_run_job, lambda config: json.loads(config["resources"]))
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(search_alg=searcher, num_samples=-1, reuse_actors=True),
        run_config=tune.RunConfig(
            storage_path=str(scratch),
            name="sweep",
            verbose=0,
            callbacks=[StepWatcher(after_step)],
        ),
    )
    try:
        with contextlib.redirect_stdout(io.StringIO()), interruption:
            tuner.fit()
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    if searcher.problem:
        raise SharedError(searcher.problem)
    if not schedule.done:
        raise ClusterError("the run was ended before all its trials were; the same command goes on from there")


def slots_of(schedule: Schedule, capacity: Capacity) -> Slots:
    """Return how many trials of a schedule run at a time, at most, and the CPUs that each reserves, at least.

    A trial that has to be alone takes a whole machine, one of the largest.
    """
    table = schedule.request.table
    if table.alone:
        return Slots(1, capacity.most_cpus(table.gpus))
    threads = min((table.threads_of(line.row) for line in schedule.lines), default=table.threads)
    streamed = needs_of_streamed(table.workers, threads, table.gpus)
    needs = streamed if schedule.streams else [Node(threads, table.gpus)]
    return Slots(max(1, capacity.times(needs)), threads)


def run_here(schedule: Schedule, places: Places, watch: Watch) -> None:
    """Run the same work one trial after the other in this process, without Ray."""
    while (job := schedule.next_job()) is not None:
        result = _finish(job, places)
        schedule.finish(result)
        watch(schedule)


def _finish(job: Job, places: Places, seconds: float | None = None) -> Any:
    dataset = open_prepared(places.data / "prepared" / job.spec.dataset)
    catalog = MethodCatalog(places.search_spaces)
    store = Store(places.store)
    return finish_trial(job.spec, dataset, catalog, store, keep_checkpoint=job.keep_checkpoint, seconds=seconds)


def _run_job(config: dict[str, str]) -> None:
    """Run one job inside a Tune worker; only its end, or what other jobs would meet too, is reported."""
    from ray import tune

    job = Job(TrialSpec.model_validate_json(config["spec"]), config["keep_checkpoint"] == "yes", config["label"])
    places = TypeAdapter(Places).validate_json(config["places"]).in_worker()
    seconds, problem = json.loads(config["checkpoint_seconds"]), ""
    try:
        try:
            if job.spec.feed == "stream":
                from harness.train_workers import finish_in_workers

                finish_in_workers(job, places, seconds)
            else:
                _finish(job, places, seconds)
        except (SharedError, LostWorkersError):
            raise
        except Exception as error:  # what goes wrong before the trial starts is recorded like what goes wrong in it
            Store(places.store).write(failed_record(job.spec, describe(error)), {})
    except SharedError as error:
        problem = str(error)
    tune.report({"problem": problem})
