"""The two objects that Ray Tune calls back: the searcher that hands out the schedule's jobs, and a watcher.

Tune pickles both into a snapshot of its own, which nothing reads: the store has all that a restart needs. So neither
takes anything into its pickle.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter
from ray.tune import Callback
from ray.tune.search import Searcher

from harness.capacity import Capacity, Node, Slots, needs_of_streamed
from harness.errors import StoreError
from harness.places import Places
from harness.record import TrialResult
from harness.request import Job
from harness.schedule import Schedule
from harness.store import Store
from harness.trial import asked_seconds, failed_record

TRIAL_OF_WORKERS_CPUS = 0.01
"""What the process of a trial takes that only waits for its workers."""

TRIES = 3
"""How often a trial is begun whose process or node dies; what a trial raises is in its record, and not tried again."""

KILLED = "the process that ran it was killed (out of memory, or from outside)"

SEEN_WITHIN = 60.0
"""Seconds after which a record that another node has written is there to see: NFS keeps what a folder lacks so long."""


class ScheduleSearcher(Searcher):
    """Hands Tune what the schedule has ready, nothing while nothing is, and the end when all is done.

    `problem` is why the sweep ended early: the one line of what all trials meet, empty when there was none.
    """

    def __init__(self, schedule: Schedule, places: Places, slots: Slots, capacity: Capacity) -> None:
        super().__init__(metric="problem", mode="max")
        self.problem = ""
        self._schedule = schedule
        self._places = places
        self._slots, self._capacity = slots, capacity
        self._held: Job | None = None
        self._again: list[Job] = []
        self._tries: Counter[str] = Counter()
        self._store = Store(places.store)
        self._jobs: dict[str, Job] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return the configuration of the next job, None to be asked again, or the end."""
        if self.problem:
            return Searcher.FINISHED
        try:
            job = self._held or (self._again.pop(0) if self._again else self._schedule.next_job())
        except StoreError as error:
            self.problem = str(error)
            return Searcher.FINISHED
        if job is None:
            # With nothing running, nothing can become ready any more: waiting would never end.
            return None if self._jobs else Searcher.FINISHED
        self._held = job if self._has_to_wait(job) else None
        if self._held is not None:
            return None
        self._jobs[trial_id] = job
        return {
            "spec": job.spec.model_dump_json(),
            "keep_checkpoint": "yes" if job.keep_checkpoint else "no",
            "label": job.label,
            "places": TypeAdapter(Places).dump_json(self._places).decode(),
            "checkpoint_seconds": json.dumps(asked_seconds()),  # a cluster's processes do not see this environment
            "resources": json.dumps(self._reserved(job)),
        }

    def _reserved(self, job: Job) -> dict[str, float]:
        """Return what Tune reserves for a job; workers of Ray Train reserve for themselves."""
        if job.spec.feed == "stream":
            return {"cpu": TRIAL_OF_WORKERS_CPUS}
        return {"cpu": self._cpus(job), "gpu": job.spec.gpus}

    def _has_to_wait(self, job: Job) -> bool:
        """Tell whether the workers of a streamed trial, or a trial beside such workers, would wait for CPUs or GPUs.

        Tune knows nothing of what the workers take, so what does not fit is not handed out at all.
        """
        jobs = [*self._jobs.values(), job]
        if len(jobs) == 1 or all(other.spec.feed != "stream" for other in jobs):
            return False
        return not self._capacity.holds(need for other in jobs for need in self._needs(other))

    def _needs(self, job: Job) -> list[Node]:
        spec = job.spec
        if spec.feed == "stream":
            return needs_of_streamed(spec.workers, spec.threads, spec.gpus)
        return [Node(self._cpus(job), spec.gpus)]

    def _cpus(self, job: Job) -> float:
        return max(self._slots.cpus, job.spec.threads)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Take the trial's record from the store; one whose process died is begun again, or gets its record here.

        A record that is missing of a trial that came to its end is a problem of the store, and ends the sweep.
        Tune's own recovery is not enough: it gives a trial up at once whose process dies before it has started.
        """
        job = self._jobs.pop(trial_id, None)
        if job is None:
            return
        reported = (result or {}).get("problem")  # a process that died has reported nothing
        self.problem = self.problem or str(reported or "")
        if self.problem:
            return
        try:
            record = self._store.record(job.spec.id) if reported is None else self._record_of_ended(job)
            if record is None:
                self._tries[job.spec.id] += 1
                if self._tries[job.spec.id] < TRIES:
                    self._again.append(job)
                    return
                record = self._store.write(failed_record(job.spec, KILLED), {})
        except StoreError as problem:
            self.problem = str(problem)
            return
        self._schedule.finish(record)

    def _record_of_ended(self, job: Job) -> TrialResult:
        """Return the record that a trial has left which came to its end, finished or failed.

        Raises:
            StoreError: it is not there: beginning the trial again, perhaps a long one, would lead nowhere else.
        """
        latest = time.monotonic() + SEEN_WITHIN
        while (record := self._store.record(job.spec.id)) is None:
            if time.monotonic() >= latest:
                raise StoreError(
                    f"trial {job.spec.id} ended, but its record is not in store {self._store.location} here;"
                    " on a cluster all nodes must share it"
                )
            time.sleep(1.0)
        return record

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""

    def __getstate__(self) -> dict[str, Any]:
        return {}


class StepWatcher(Callback):
    """Calls back at every step of Tune's loop."""

    def __init__(self, step: Callable[[], None]) -> None:
        self._step = step

    def on_step_end(self, iteration: int, trials: list[Any], **info: Any) -> None:
        """Pass the step on."""
        self._step()

    def __getstate__(self) -> dict[str, Any]:
        return {}
