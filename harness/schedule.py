"""What a table's run has to do next: studies, then repeats, each when what it starts from is done.

Pure bookkeeping, without Ray: `next_job` hands out work, `finish` takes results. All that it decides follows from the
table and the store, so a run that is started again continues the interrupted one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.datasets.prepared import PreparedDataset
from harness.feeds import chosen_feed
from harness.line_trials import LineTrials, in_row
from harness.methods import MethodCatalog
from harness.record import TrialResult
from harness.request import Job, Line, Request
from harness.specs import Parameters, Purpose
from harness.store import Store
from harness.table_rows import Row
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
        self._trials = LineTrials(request, catalog)
        for dataset in request.datasets.values():
            self._add_lines(dataset)
        self._trials.check((*self.sources, *self.lines))

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
            elif line.parameters is None and self._trials.space(line):
                yield line, "search", self.request.table.search.trials
            yield line, "repeat", len(self.request.seeds) - len(line.results)

    def typical(self, line: Line) -> Parameters:
        """Return what a line's trials have that is not a default, with None for what is still to be searched."""
        return self._trials.typical(line)

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
            with in_row(row):
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
            line.parameters = self._trials.unsearched(line)
        if line.settled:
            self._plan_repeats(line)

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
        study = line.study = line.study or self._trials.study(line)
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
            line.parameters = self._trials.searched(line, best.parameters)

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

    def _plan_repeats(self, line: Line) -> None:
        if line.parameters is not None and not line.repeats:
            line.repeats = self._trials.repeats(line, line.parameters)
