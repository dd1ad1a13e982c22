"""The parameters of a table's lines, and the trials that these make.

A parameter is published, the table row's own, overridden by the user, searched, or carried over from what a line
starts from. Nothing here depends on what has run: a line knows its own parameters and those of its start once both are
settled, and `harness.schedule` settles them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from harness.errors import InputError, did_you_mean
from harness.feeds import chosen_feed
from harness.methods import MethodCatalog, component_names, defaults, load_class, trial_spec
from harness.request import Line, Request
from harness.specs import Dimension, Parameters, Purpose, TrialSpec
from harness.study import Study
from harness.table_rows import Row
from harness.tasks import load_task


class LineTrials:
    """What the lines of one request search, and the trials of their searches and repeats."""

    def __init__(self, request: Request, catalog: MethodCatalog) -> None:
        self._request = request
        self._catalog = catalog
        self._task = load_task(request.table.task)

    def check(self, lines: Sequence[Line]) -> None:
        """Tell what does not fit before anything runs.

        Raises:
            InputError: no line knows an override, or a trial at an end of some dimension cannot be built.
        """
        self._check_overrides(lines)
        for line in lines:
            with in_row(line.row):
                self._sample(line, {})
                for name, dimension in self.space(line).items():
                    for value in dimension.samples:
                        self._sample(line, {name: value})

    def space(self, line: Line) -> dict[str, Dimension]:
        """Return what a study searches: the method's space without what the row or the user sets."""
        if self._request.selection == "published" or line.carries or line.row.untuned:
            return {}
        fixed = set(line.row.parameters) | set(self._request.overrides)
        return {name: dimension for name, dimension in line.method.space.items() if name not in fixed}

    def unsearched(self, line: Line) -> Parameters | None:
        """Return a line's parameters, if nothing has to be searched for them and what they are carried from is known.

        Raises:
            InputError: published parameters are asked for, and there are none.
        """
        start = line.start
        if start is not None and line.carries:
            if start.parameters is None or not start.settled:
                return None
            return self._carried(line, start.parameters)
        return None if self.space(line) else self._fixed(line)

    def searched(self, line: Line, best: Parameters) -> Parameters:
        """Return the parameters of a line whose search found these best."""
        return self._fixed(line) | best

    def study(self, line: Line) -> Study:
        """Return a line's search, from its beginning."""
        space, search = self.space(line), self._request.table.search
        published = line.method.published_for(line.dataset.name) or {}
        standard = known_parameters(line.row, self._catalog, self._request.table.task)
        content = [
            line.dataset.hash,
            line.method.name,
            line.method.space_hash,
            sorted(space),
            self._fixed(line),
            self._start(line, search.seed, "search"),
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

    def repeats(self, line: Line, parameters: Parameters) -> dict[int, TrialSpec]:
        """Return a line's trials with these parameters by seed; what it starts from is settled."""
        return {seed: self._spec(line, parameters, seed, "repeat") for seed in self._request.seeds}

    def typical(self, line: Line) -> Parameters:
        """Return what a line's trials have that is not a default, with None for what is still to be searched."""
        if line.repeats:
            return next(iter(line.repeats.values())).parameters
        return self._sample(line, {}).parameters | dict.fromkeys(self.space(line))

    def _fixed(self, line: Line) -> Parameters:
        """Return what the search does not touch: published parameters, the row's own, and overrides it knows."""
        published = line.method.published_for(line.dataset.name)
        if published is None and self._request.selection == "published":
            known = sorted({name for entry in line.method.published for name in entry.datasets})
            others = f"; they are for {', '.join(known)}" if known else ""
            raise InputError(f"{line.method.name}: no published parameters for {line.dataset.name}{others}")
        return (published or {}) | line.row.parameters | self._known_overrides(line)

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

    def _known_overrides(self, line: Line) -> Parameters:
        known = known_parameters(line.row, self._catalog, self._request.table.task)
        return {name: value for name, value in self._request.overrides.items() if name in known}

    def _spec(self, line: Line, parameters: Parameters, seed: int, purpose: Purpose) -> TrialSpec:
        return self._trial(line, parameters, seed, purpose, self._start(line, seed, purpose))

    def _start(self, line: Line, seed: int, purpose: Purpose) -> TrialSpec | None:
        if line.start is None:
            return None
        if line.start.parameters is None:
            raise InputError(f"{line.row.name}: {line.start.row.name}, which it starts from, has no parameters yet")
        if line.row.shared_backbone and purpose == "repeat":
            seed = self._request.table.seeds[0]
        return self._spec(line.start, line.start.parameters, seed, purpose)

    def _sample(self, line: Line, values: Parameters) -> TrialSpec:
        """Return some trial of a line, with these values, settled or not."""
        start = self._sample(line.start, {}) if line.start is not None else None
        return self._trial(line, self._sample_parameters(line) | values, 0, "search", start)

    def _sample_parameters(self, line: Line) -> Parameters:
        if line.start is not None and line.carries:
            return self._carried(line, self._sample_parameters(line.start))
        point = {name: dimension.samples[0] for name, dimension in self.space(line).items()}
        return self._fixed(line) | point

    def _trial(
        self, line: Line, parameters: Parameters, seed: int, purpose: Purpose, start: TrialSpec | None
    ) -> TrialSpec:
        table = self._request.table
        return trial_spec(
            task_name=table.task,
            dataset=line.dataset.name,
            dataset_hash=line.dataset.hash,
            row=line.row,
            parameters=parameters,
            seed=seed,
            threads=table.threads_of(line.row),
            purpose=purpose,
            gpus=table.gpus,
            feed=chosen_feed(table.feed, table.workers, line.dataset),
            workers=table.workers,
            catalog=self._catalog,
            start=start,
        )

    def _check_overrides(self, lines: Sequence[Line]) -> None:
        known: set[str] = set()
        for row in {line.row.name: line.row for line in lines}.values():
            known |= set(known_parameters(row, self._catalog, self._request.table.task))
        for name in self._request.overrides:
            if name not in known:
                raise InputError(f"--set {name}: no row that runs has this parameter{did_you_mean(name, known)}")


@contextmanager
def in_row(row: Row) -> Iterator[None]:
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
