"""What a table's run has to do next: studies, then repeats, each when what it starts from is done.

Pure bookkeeping, without Ray: `next_job` hands out work, `finish` takes results. All that it decides follows from the
table and the store, so a run that is started again continues the interrupted one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.datasets.prepared import PreparedDataset
from harness.errors import InputError, did_you_mean
from harness.feeds import chosen_feed
from harness.methods import MethodCatalog, component_names, defaults, load_class, trial_spec
from harness.record import TrialResult
from harness.request import Job, Line, Request
from harness.specs import Dimension, Parameters, Purpose, TrialSpec
from harness.store import Store
from harness.study import Study
from harness.table_specs import Row
from harness.tasks import load_task
from harness.trial import lacks_checkpoint


class Schedule:
    """The work of one request.

    `lines` are its rows on its datasets, `sources` the pretraining that some of them start from; `running` and
    `finished` (with their labels) are this run's trials by id.

    Raises:
        InputError: a row, dataset or parameter does not fit.
    """

    def __init__(self, request: Request, catalog: MethodCatalog, store: Store) -> None:
        self.request = request
        self.lines: list[Line] = []
        self.sources: list[Line] = []
        self.running: dict[str, Job] = {}
        self.finished: dict[str, tuple[str, TrialResult]] = {}
        self._catalog = catalog
        self._store = store
        self._known: dict[str, TrialResult] = {}
        self._absent: set[str] = set()
        self._with_checkpoint: set[str] = set()
        self._task = load_task(request.table.task)
        for dataset in request.datasets.values():
            self._add_lines(dataset)
        self._check_overrides()
        for line in (*self.sources, *self.lines):
            with _in_row(line.row):
                self._check_parameters(line)

    @property
    def streams(self) -> bool:
        """Whether rows of one of its datasets reach trials as a stream."""
        table, datasets = self.request.table, self.request.datasets.values()
        return any(chosen_feed(table.feed, table.workers, dataset) == "stream" for dataset in datasets)

    @property
    def done(self) -> bool:
        """Whether every study and repeat has its result."""
        return all(line.done for line in self.lines)

    def next_job(self) -> Job | None:
        """Return a trial that can run now, or None when all that is left waits for running ones."""
        for line in (*self.sources, *self.lines):
            for job in self._wanted(line):
                ready = self._ready(job)
                if ready is not None:
                    self.running[ready.spec.id] = ready
                    return ready
        return None

    def finish(self, result: TrialResult) -> None:
        """Take the result of a job."""
        job = self.running.pop(result.id, None)
        self.finished[result.id] = (job.label if job else result.spec.method, result)
        self._known[result.id] = result
        if job is not None and job.keep_checkpoint:
            self._with_checkpoint.add(result.id)  # or it never leaves one, and what starts from it fails with that word

    def known(self, trial_id: str) -> TrialResult | None:
        """Return a trial's result, if this schedule has come across it."""
        return self._known.get(trial_id)

    def remaining(self) -> Iterator[tuple[Line, Purpose, int]]:
        """Yield for each line how many search trials and repeats are still to run."""
        for line in (*self.sources, *self.lines):
            list(self._wanted(line))  # takes in what the store has
            if line.problem:
                continue
            if line.study is not None:
                yield line, "search", line.study.budget - sum(asked.told for asked in line.study.asked)
            elif self._is_tuned(line) and line.parameters is None:
                yield line, "search", self.request.table.search.trials
            yield line, "repeat", len(self.request.seeds) - len(line.results)

    def typical(self, line: Line) -> Parameters:
        """Return what a line's trials have that is not a default, with None for what is still to be searched."""
        if line.repeats:
            return next(iter(line.repeats.values())).parameters
        return self._sample(line, {}).parameters | dict.fromkeys(self._space(line))

    def _add_lines(self, dataset: PreparedDataset) -> None:
        table = self.request.table
        by_name: dict[str, Line] = {}
        at_hand = {**self.request.pretraining, **self.request.datasets}
        wanted = set(self.request.rows)
        for row in reversed(table.rows):
            if row.name in wanted and row.starts_from:
                wanted.add(row.starts_from)
        for row in table.rows:
            if row.name not in wanted or row.method is None or not at_hand.keys() >= set(row.pretrained_on):
                continue
            with _in_row(row):
                pretraining = self._pretraining(row, [at_hand[name] for name in row.pretrained_on])
                line = Line(
                    row=row,
                    method=self._catalog.find(row.method),
                    dataset=dataset,
                    start=pretraining or by_name.get(row.starts_from or ""),
                    started_from=any(other.starts_from == row.name and other.trains for other in table.rows),
                )
                by_name[row.name] = line
                self.lines.append(line)
                self._settle(line)

    def _pretraining(self, row: Row, datasets: Sequence[PreparedDataset]) -> Line | None:
        """Return the line that trains a row on these datasets one after the other; None without any."""
        start: Line | None = None
        for dataset in datasets:
            known = [line for line in self.sources if line.row is row and line.dataset.name == dataset.name]
            line = next((line for line in known if line.start is start), None)
            if line is None:
                method = self._catalog.find(str(row.method))
                line = Line(row, method, dataset, start, started_from=False, pretrains=True)
                self.sources.append(line)
                self._settle(line)
            start = line
        return start

    def _settle(self, line: Line) -> None:
        """Set a line's parameters, if nothing has to be searched for them, and plan its repeats."""
        if line.parameters is None:
            if line.start is not None and line.carries:
                if line.start.settled and line.start.parameters is not None:
                    line.parameters = self._carried(line, line.start.parameters)
            elif not self._is_tuned(line):
                line.parameters = self._fixed(line)
        if line.settled:
            self._plan_repeats(line)

    def _carried(self, line: Line, started_with: Parameters) -> Parameters:
        """Return what a line takes over of its start's parameters, and its own.

        From another dataset these are the method's alone: how the task is done, where an item's text is from for
        example, is the line's own dataset's.
        """
        own = line.row.parameters | self._known_overrides(line)
        if not line.row.pretrained_on:
            return started_with | own
        settings = set(self._task.settings.model_fields)
        kept = {name: value for name, value in started_with.items() if name not in settings}
        published = line.method.published_for(line.dataset.name) or {}
        here = {name: value for name, value in published.items() if name in settings}
        return kept | here | own | ({"train": True} if line.pretrains else {})

    def _wanted(self, line: Line) -> Iterator[Job]:
        """Yield the jobs that this line asks for at present, taking in results that are there already."""
        if line.problem or (line.start is not None and self._waits_for_start(line)):
            return
        self._settle(line)
        if line.parameters is None:
            yield from self._searching(line)
        if line.parameters is not None:
            self._plan_repeats(line)
            for spec in line.repeats.values():
                result = self._result(spec.id)
                if result is not None:
                    line.results[spec.id] = result
                else:
                    yield Job(spec, True, f"{line.dataset.name} · {line.row.name} · seed {spec.seed}")

    def _searching(self, line: Line) -> Iterator[Job]:
        study = line.study = line.study or self._open_study(line)
        while not study.finished:
            pending = study.pending()
            waiting = []
            for spec in pending:
                result = self._result(spec.id)
                if result is not None:
                    study.tell(result)
                else:
                    waiting.append(spec)
            if waiting:
                for spec in waiting:
                    label = f"{line.dataset.name} · {line.row.name} · search"
                    yield Job(spec, line.started_from, label)
                return
        best = study.best
        if best is None:
            line.problem = f"all {study.distinct} search trials failed"
        else:
            line.parameters = self._fixed(line) | best.parameters

    def _ready(self, job: Job) -> Job | None:
        """Return the job, or the one it starts from, unless it is running or has to wait."""
        if job.spec.id in self.running:
            return None
        start = job.spec.starts_from
        if start is not None and self._result(start.id, with_checkpoint=True) is None:
            return self._ready(Job(start, True, f"{job.label} (start)"))
        return job

    def _result(self, trial_id: str, *, with_checkpoint: bool = False) -> TrialResult | None:
        if trial_id in self.running:
            return None
        if trial_id not in self._known:
            # Looked up once: the store may be far away, and who runs a trial looks again.
            if trial_id in self._absent:
                return None
            record = self._store.record(trial_id, with_files=True)
            if record is not None and record.status == "failed" and self.request.retry_failed:
                self._store.remove(trial_id)
                record = None
            if record is None:
                self._absent.add(trial_id)
                return None
            self._known[trial_id] = record
        result = self._known[trial_id]
        if with_checkpoint and trial_id not in self._with_checkpoint:
            if lacks_checkpoint(result, self._store):
                return None
            self._with_checkpoint.add(trial_id)
        return result

    def _waits_for_start(self, line: Line) -> bool:
        start = line.start
        if start is None:
            return False
        if start.problem:
            line.problem = f"{start.row.name}, which it starts from: {start.problem}"
            return True
        return not start.settled

    def _open_study(self, line: Line) -> Study:
        space = self._space(line)
        published = line.method.published_for(line.dataset.name) or {}
        standard = known_parameters(line.row, self._catalog, self.request.table.task)
        search = self.request.table.search
        content = [
            line.dataset.hash,
            line.method.name,
            line.method.space_hash,
            sorted(space),
            self._fixed(line),
            self._start_spec(line, search.seed, "search"),
        ]
        key = hashlib.sha256(json.dumps(content, sort_keys=True, default=lambda spec: spec.id).encode()).hexdigest()
        return Study(
            key=key,
            space=space,
            settings=search,
            metric=self._task.primary,
            first={name: value for name, value in (standard | published).items() if name in space},
            make_spec=lambda sampled: self._spec(line, self._fixed(line) | sampled, search.seed, "search"),
        )

    def _plan_repeats(self, line: Line) -> None:
        if line.repeats or line.parameters is None:
            return
        for seed in self.request.seeds:
            line.repeats[seed] = self._spec(line, line.parameters, seed, "repeat")

    def _spec(self, line: Line, parameters: Parameters, seed: int, purpose: Purpose) -> TrialSpec:
        return trial_spec(
            task_name=self.request.table.task,
            dataset=line.dataset.name,
            dataset_hash=line.dataset.hash,
            row=line.row,
            parameters=parameters,
            seed=seed,
            threads=self.request.table.threads,
            purpose=purpose,
            gpus=self.request.table.gpus,
            feed=chosen_feed(self.request.table.feed, self.request.table.workers, line.dataset),
            workers=self.request.table.workers,
            catalog=self._catalog,
            start=self._start_spec(line, seed, purpose),
        )

    def _start_spec(self, line: Line, seed: int, purpose: Purpose) -> TrialSpec | None:
        if line.start is None:
            return None
        if line.start.parameters is None:
            raise InputError(f"{line.row.name}: {line.start.row.name}, which it starts from, has no parameters yet")
        if line.row.shared_backbone and purpose == "repeat":
            seed = self.request.table.seeds[0]
        return self._spec(line.start, line.start.parameters, seed, purpose)

    def _fixed(self, line: Line) -> Parameters:
        """Return what the search does not touch: published parameters, the row's own, and overrides it knows."""
        published = line.method.published_for(line.dataset.name)
        if published is None and self.request.selection == "published":
            known = sorted({name for entry in line.method.published for name in entry.datasets})
            others = f"; they are for {', '.join(known)}" if known else ""
            raise InputError(f"{line.method.name}: no published parameters for {line.dataset.name}{others}")
        return (published or {}) | line.row.parameters | self._known_overrides(line)

    def _known_overrides(self, line: Line) -> Parameters:
        return {name: value for name, value in self.request.overrides.items() if self._knows(line.row, name)}

    def _is_tuned(self, line: Line) -> bool:
        return bool(self._space(line))

    def _space(self, line: Line) -> dict[str, Dimension]:
        """Return what a study searches: the method's space without what the row or the user sets."""
        if self.request.selection == "published" or line.carries:
            return {}
        fixed = set(line.row.parameters) | set(self.request.overrides)
        return {name: dimension for name, dimension in line.method.space.items() if name not in fixed}

    def _check_parameters(self, line: Line) -> None:
        """Build a trial at both ends of every dimension, so that what does not fit is told before anything runs."""
        self._sample(line, {})
        for name, dimension in self._space(line).items():
            for value in dimension.samples:
                self._sample(line, {name: value})

    def _sample(self, line: Line, values: Parameters) -> TrialSpec:
        """Return some trial of a line, with these values."""
        return trial_spec(
            task_name=self.request.table.task,
            dataset=line.dataset.name,
            dataset_hash=line.dataset.hash,
            row=line.row,
            parameters=self._sample_parameters(line) | values,
            seed=0,
            threads=self.request.table.threads,
            purpose="search",
            gpus=self.request.table.gpus,
            feed=chosen_feed(self.request.table.feed, self.request.table.workers, line.dataset),
            workers=self.request.table.workers,
            catalog=self._catalog,
            start=self._sample(line.start, {}) if line.start is not None else None,
        )

    def _sample_parameters(self, line: Line) -> Parameters:
        if line.start is not None and line.carries:
            return self._carried(line, self._sample_parameters(line.start))
        point = {name: dimension.samples[0] for name, dimension in self._space(line).items()}
        return self._fixed(line) | point

    def _knows(self, row: Row, name: str) -> bool:
        return name in known_parameters(row, self._catalog, self.request.table.task)

    def _check_overrides(self) -> None:
        known: set[str] = set()
        for row in {line.row.name: line.row for line in self.lines}.values():
            known |= set(known_parameters(row, self._catalog, self.request.table.task))
        for name in self.request.overrides:
            if name not in known:
                raise InputError(f"--set {name}: no row that runs has this parameter{did_you_mean(name, known)}")


@contextmanager
def _in_row(row: Row) -> Iterator[None]:
    """Name the row that an error is about: rows share methods, and a method does not say where it stands."""
    try:
        yield
    except InputError as error:
        raise InputError(f"rows.{row.name}: {error}") from None


def known_parameters(row: Row, catalog: MethodCatalog, task_name: str) -> Parameters:
    """Return every parameter that a row's method, its components and its task know, with its default."""
    if row.method is None:
        return {}
    task = load_task(task_name)
    cls = load_class(catalog.find(row.method), task.base)
    known: Parameters = {**task.settings().model_dump(), **defaults(cls)}
    for component in component_names(cls):
        chosen = row.parameters.get(component)
        if isinstance(chosen, str):
            own = defaults(load_class(catalog.find(chosen)))
            known |= {component: chosen} | {f"{component}.{name}": value for name, value in own.items()}
    return known
