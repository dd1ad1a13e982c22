"""What a run is asked for, what its schedule keeps of it (a line for each row on each dataset), and the next jobs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from harness.datasets.prepared import PreparedDataset
from harness.record import TrialResult
from harness.specs import Method, Parameters, Selection, TrialSpec
from harness.study import Study
from harness.table_rows import Row
from harness.table_specs import TableSpec


@dataclass(frozen=True)
class Job:
    """A trial to run now."""

    spec: TrialSpec
    keep_checkpoint: bool
    label: str


@dataclass(frozen=True)
class Request:
    """Which part of a table to run, and how.

    `rows` and `datasets` are names; `overrides` are parameters that replace a row's, for the rows that know them.
    `pretraining` has datasets beside the table's that rows are pretrained on; rows whose dataset it lacks do not run.
    """

    table: TableSpec
    datasets: Mapping[str, PreparedDataset]
    rows: tuple[str, ...]
    seeds: tuple[int, ...]
    selection: Selection
    overrides: Parameters = field(default_factory=dict)
    retry_failed: bool = False
    pretraining: Mapping[str, PreparedDataset] = field(default_factory=dict)


@dataclass
class Line:
    """One row of the table on one dataset: its study, if it is tuned, and its repeats.

    `pretrains` tells that the dataset is one that the row is pretrained on, so that its results are not the table's.
    """

    row: Row
    method: Method
    dataset: PreparedDataset
    start: Line | None
    started_from: bool
    study: Study | None = None
    repeats: dict[int, TrialSpec] = field(default_factory=dict)
    results: dict[str, TrialResult] = field(default_factory=dict)
    parameters: Parameters | None = None
    problem: str = ""
    pretrains: bool = False

    @property
    def carries(self) -> bool:
        """Whether its parameters are those of what it starts from, and none are searched for it."""
        return self.start is not None and not self.row.trains

    @property
    def searched(self) -> Study | None:
        """The study that its parameters are from, if they were searched."""
        return self.start.searched if self.start is not None and self.carries else self.study

    @property
    def selection(self) -> Selection:
        """How its parameters were chosen, tuned where a study chose those of what it starts from alone."""
        if self.searched is not None:
            return "tuned"
        return self.start.selection if self.start is not None else "published"

    @property
    def failed(self) -> int:
        """How many of its trials have failed, those of its search among them."""
        searched = self.study.failed if self.study is not None else 0
        return searched + sum(result.status == "failed" for result in self.results.values())

    @property
    def done(self) -> bool:
        """Whether nothing is left to do here."""
        if self.problem:
            return True
        return bool(self.repeats) and all(spec.id in self.results for spec in self.repeats.values())

    @property
    def settled(self) -> bool:
        """Whether the parameters of this row and of all that it starts from are known."""
        return self.parameters is not None and (self.start is None or self.start.settled)
