"""What a table is made of: pure data, which `build` fills and the renderers only lay out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from harness.metrics.calibration import Reliability
from harness.projections import Projection
from harness.statistics import Agreement, Difference, Summary, Verdict
from harness.table_specs import TableSpec
from harness.tables.published import Key, PublishedCell
from harness.training_curve import TrainingCurve

Place = Literal["best", "second", ""]
SELECTIONS = ("published", "tuned")
RELATIVE = "relaimpr"
LOWER_IS_BETTER = ("log_loss", "ece", "_ms", "_s")
"""How the names of metrics end of which less is better."""


@dataclass(frozen=True)
class Measurement:
    """What our trials gave for a cell under one selection of parameters.

    `values` are by seed. `sampling_error` is the standard error over test users or rows (NaN where it is unknown).
    `agreement` is None where there is nothing to agree with, or no tolerance to judge by.
    """

    summary: Summary
    values: Mapping[int, float]
    sampling_error: float
    agreement: Agreement | None
    place: Place = ""


@dataclass(frozen=True)
class Cell:
    """A cell: what the paper prints and what we measured, by selection."""

    published: PublishedCell | None
    published_place: Place
    measured: Mapping[str, Measurement]


@dataclass(frozen=True)
class Comparison:
    """A row's paired difference to the reference row; `holm` is adjusted over the rows of its column."""

    dataset: str
    metric: str
    selection: str
    row: str
    reference: str
    difference: Difference
    holm: float


@dataclass(frozen=True)
class Claim:
    """That a row beats another one on a metric, by the mean paired difference and its 95 % interval.

    `over_rest` says that the other row stands for all that are left: it is the one that comes closest. Where less is
    better, the difference is of the other sign than the metric's. The claim holds when the interval lies above 0,
    fails when it lies below, and is open in between.
    """

    dataset: str
    metric: str
    selection: str
    row: str
    other: str
    over_rest: bool
    difference: Difference

    @property
    def verdict(self) -> Literal["holds", "fails", "open"]:
        """What the interval says."""
        if self.difference.low > 0:
            return "holds"
        return "fails" if self.difference.high < 0 else "open"


@dataclass(frozen=True)
class Provenance:
    """How a row's trials under one selection were run; parameters and hashes list every distinct value."""

    selection: str
    parameters: tuple[str, ...]
    seeds: tuple[int, ...]
    failures: tuple[tuple[int, str], ...]
    search_trials: int
    search_distinct: int
    search_failed: int
    space_hash: str
    setups: tuple[str, ...]
    data_hashes: tuple[str, ...]
    data_notes: tuple[str, ...]
    environments: tuple[str, ...]
    timed_codes: tuple[str, ...]


@dataclass(frozen=True)
class Table:
    """A table of a paper with our measurements. `status` is of rows without a measurement.

    `curves` and `reliability` are by dataset, row and selection, then by seed, `projections` by dataset, row and
    selection.
    """

    spec: TableSpec
    cells: Mapping[Key, Cell]
    comparisons: tuple[Comparison, ...]
    provenance: Mapping[tuple[str, str], tuple[Provenance, ...]]
    status: Mapping[tuple[str, str], Verdict]
    order: tuple[Claim, ...] = ()
    curves: Mapping[Key, Mapping[int, TrainingCurve]] = field(default_factory=dict)
    projections: Mapping[Key, Projection] = field(default_factory=dict)
    reliability: Mapping[Key, Mapping[int, Reliability]] = field(default_factory=dict)

    def cell(self, dataset: str, row: str, metric: str) -> Cell:
        """Return a cell of the table."""
        return self.cells[dataset, row, metric]

    def verdict(self, dataset: str, row: str, metric: str, selection: str) -> Verdict:
        """Return the verdict on a cell; empty where there is nothing to judge."""
        measurement = self.cell(dataset, row, metric).measured.get(selection)
        if measurement is None:
            return self.status.get((dataset, row), "not run")
        if measurement.summary.n == 0:
            return "failed" if measurement.summary.failed else "not run"
        return measurement.agreement.verdict if measurement.agreement else ""
