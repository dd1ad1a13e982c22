"""The pydantic models of a table's YAML file."""

from __future__ import annotations

import math
from functools import cached_property
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from harness.errors import InputError, did_you_mean
from harness.record import PLANTED
from harness.specs import Search, Strict
from harness.table_rows import MOST_THREADS, Axis, Point, Row, check_start, each_once
from harness.yaml_files import load_yaml

TableKind = Literal["cells", "curve", "timing", "statistics", "convergence", "projection"]
Drawing = Literal[
    "seeds",
    "stages",
    "rows",
    "reliability",
    "curve",
    "times",
    "scatter",
    "counts",
    "convergence",
    "t_sne",
    "covariance",
]
LARGEST_SEED = 2**63 - 1
"""What a column of `measured.parquet` can hold."""
COUNTED = "counted"
"""The one row of a table of kind `statistics`."""
MetricName = Annotated[str, Field(pattern=r"^[a-z0-9_@]+(/[a-z0-9_@]+)?$")]


class TableSpec(Strict):
    """`results/<paper>/<table>/table.yaml`: what a table of a paper asks for.

    `kind` says what it shows: `cells` (rows by metrics), a `curve` (every row at every value of `axis`), a `timing`
    (trials that run alone on their machine), `statistics` (what a dataset counts, without trials), a `convergence` (the
    validation metric while trials train) or a `projection` (the item embeddings that trials learned). `figure` says how
    it is drawn where a kind has several drawings: cells as every seed, as the stages of a cold start, by the number of
    training rows of generated datasets or as reliability diagrams, times as every seed or as a scatter of the other
    metrics over the last, embeddings by t-SNE or as their covariance. Other rows are compared with `reference`, pair by
    pair; where that is a line of a curve, points are compared at the same value. Pairs are test users where ranks are
    known, else seeds; `pairs: seeds` is for rows that share all under a seed but what is compared. The first row of
    `order` is to beat the second, and so on, and each of them all other rows of the paper. `gpus` are reserved for
    each trial, or each worker of one, which then computes on a GPU; they are refused where no node has them. `feed`
    says how rows reach a trial: `resident` in memory, as a `stream`, or `auto`, by the dataset's size. `workers`
    train each trial together, with `threads` each, and always stream.
    """

    title: str
    paper: str
    kind: TableKind
    task: str = ""
    datasets: tuple[str, ...] = Field(min_length=1)
    metrics: tuple[MetricName, ...] = Field(min_length=1)
    tolerance: dict[str, float | str] = Field(default={})
    reference: str | tuple[str, ...] = ()
    pairs: Literal["users", "seeds"] = "users"
    baseline: str | tuple[str, ...] = ()
    order: tuple[str, ...] = ()
    figure: Drawing | None = None
    axis: Axis | None = None
    seeds: tuple[Annotated[int, Field(ge=0, le=LARGEST_SEED)], ...] = ()
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0
    feed: Literal["auto", "resident", "stream"] = "auto"
    workers: Annotated[int, Field(ge=1)] = 1
    search: Search = Search()
    written_rows: tuple[Row, ...] = Field(default=(), alias="rows")

    @field_validator("seeds", "datasets", "metrics", "order")
    @classmethod
    def _distinct(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        return each_once(values)

    @field_validator("gpus")
    @classmethod
    def _given_by_ray(cls, value: float) -> float:
        if value > 1 and not value.is_integer():
            raise ValueError(f"{value:g}: Ray gives fractions below 1 alone; choose a whole number")
        return value

    @field_validator("tolerance")
    @classmethod
    def _tolerable(cls, values: dict[str, float | str]) -> dict[str, float | str]:
        for name, value in values.items():
            number = value.removesuffix("%") if isinstance(value, str) and value.endswith("%") else value
            try:
                fits = 0 <= float(number) < math.inf and (number is not value or not isinstance(value, str))
            except ValueError:
                fits = False
            if not fits:
                raise ValueError(f"{name}: {value!r} is neither a number nor like '10%'")
        return values

    @model_validator(mode="after")
    def _tolerances_fit(self) -> TableSpec:
        names = {part for metric in self.metrics for part in names_of(metric)}
        for name in self.tolerance:
            if name not in names:
                raise ValueError(f"tolerance: {name!r} is no metric of the table{did_you_mean(name, names)}")
        return self

    @model_validator(mode="after")
    def _keys_fit_the_kind(self) -> TableSpec:
        for key in _NEEDED[self.kind]:
            if not getattr(self, key):
                raise ValueError(f"key {_written(key)!r} is missing: a table of kind {self.kind} needs it")
        for key in _OF_KINDS:
            if self.kind not in _OF_KINDS[key] and getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(f"{_written(key)}: a table of kind {self.kind} has none; remove it")
        if self.figure is not None and self.figure not in _DRAWINGS[self.kind]:
            known = " or ".join(_DRAWINGS[self.kind])
            raise ValueError(f"figure: a table of kind {self.kind} is drawn as {known}, not {self.figure}")
        return self

    @model_validator(mode="after")
    def _metrics_are_drawn(self) -> TableSpec:
        if self.drawing != "rows":
            return self
        for metric in PLANTED:
            if metric not in self.metrics:
                raise ValueError(f"figure: rows are drawn from {' and '.join(PLANTED)}; add {metric} to the metrics")
        if set(self.metrics) == set(PLANTED):
            raise ValueError("figure: rows are drawn for metrics in which methods differ; add one to the metrics")
        return self

    @model_validator(mode="after")
    def _feed_fits(self) -> TableSpec:
        if self.workers > 1 and self.feed == "resident":
            raise ValueError(f"workers: {self.workers} share a stream; remove feed: resident")
        return self

    @model_validator(mode="after")
    def _rows_fit(self) -> TableSpec:
        names = [row.name for row in self.written_rows]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"rows: {name!r} stands twice")
            if "," in name or not name or name != name.strip():  # `--methods` could not choose it
                raise ValueError(f"rows: {name!r} is empty, or has a comma or spaces around it; choose another name")
        mentioned: list[tuple[str, str | None]] = [("reference", name) for name in self.references]
        mentioned += [("baseline", name) for name in self.baselines] + [("order", name) for name in self.order]
        mentioned += [(f"rows.{row.name}.starts_from", row.starts_from) for row in self.written_rows]
        points = names if self.kind != "curve" else [row.name for row in self.rows]
        for key, mention in mentioned:
            among = points if key == "baseline" else [*points, *names] if key == "reference" else names
            if mention is not None and mention not in among:
                raise ValueError(f"{key}: no row {mention!r}{did_you_mean(mention, among)}")
        for index, row in enumerate(self.written_rows):
            check_start(row, self.written_rows[:index], self.kind)
        groups = [self.row(name).group for name in self.baselines]
        for group in groups:
            if groups.count(group) > 1:
                raise ValueError(f"baseline: {group or 'the table'} has two; one a group is enough")
        return self

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """The rows that have cells: those of a curve stand once for each value, dataset counts in one row."""
        if self.kind == "statistics":
            return (Row(name=COUNTED),)
        if self.axis is None:
            return self.written_rows
        fixed = {row.name for row in self.written_rows if row.fixed}
        rows: list[Row] = []
        for row in self.written_rows:
            if row.fixed:
                rows.append(row)
                continue
            for value in self.axis.values:
                start = row.starts_from
                moving = start is not None and start not in fixed
                rows.append(self.axis.point(row, value, self.axis.name_at(str(start), value) if moving else start))
        return tuple(rows)

    @property
    def references(self) -> tuple[str, ...]:
        """The rows that others are compared with; a line of a curve, point by point."""
        return (self.reference,) if isinstance(self.reference, str) else self.reference

    def compared_with(self, row: Row, reference: str) -> str | None:
        """Return the row that a row is compared with: the reference, or of a line of a curve the point at its value.

        None where there is nothing to compare: the reference itself, another group's rows, points without the other.
        """
        if reference not in self.references_of(row):
            return None
        if any(isinstance(point, Point) and point.line == reference for point in self.rows):
            if self.axis is None or not isinstance(row, Point) or row.line == reference:
                return None
            return self.axis.name_at(reference, row.value)
        return reference if row.name != reference else None

    @property
    def baselines(self) -> tuple[str, ...]:
        """The rows that RelaImpr is taken against, one a group."""
        return (self.baseline,) if isinstance(self.baseline, str) else self.baseline

    @property
    def drawing(self) -> Drawing:
        """How the table is drawn."""
        return self.figure or _DRAWINGS[self.kind][0]

    @property
    def alone(self) -> bool:
        """Whether each trial needs its machine for itself."""
        return self.kind == "timing"

    def threads_of(self, row: Row) -> int:
        """Return the threads of a row's trials: its own, else the table's."""
        return row.threads or self.threads

    def references_of(self, row: Row) -> tuple[str, ...]:
        """Return the references of a row: those of its group, or where its group has none, of the rows without one."""
        return self._in_group(self.references, row)

    def baseline_of(self, row: Row) -> str | None:
        """Return the baseline of a row: its group's, or where its group has none, that of the rows without one."""
        return next(iter(self._in_group(self.baselines, row)), None)

    def row(self, name: str) -> Row:
        """Return the row of this name.

        Raises:
            InputError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise InputError(f"no row {name!r} in the table{did_you_mean(name, [row.name for row in self.rows])}")

    def _in_group(self, names: tuple[str, ...], row: Row) -> tuple[str, ...]:
        by_group: dict[str, list[str]] = {}
        for name in names:
            written = next((row for row in self.written_rows if row.name == name), None)
            by_group.setdefault((written or self.row(name)).group, []).append(name)
        return tuple(by_group.get(row.group) or by_group.get("") or ())


_NEEDED: dict[TableKind, tuple[str, ...]] = {
    "cells": ("task", "seeds", "written_rows"),
    "curve": ("task", "seeds", "written_rows", "axis"),
    "timing": ("task", "seeds", "written_rows"),
    "statistics": (),
    "convergence": ("task", "seeds", "written_rows"),
    "projection": ("task", "seeds", "written_rows"),
}
_DRAWINGS: dict[TableKind, tuple[Drawing, ...]] = {
    "cells": ("seeds", "stages", "rows", "reliability"),
    "curve": ("curve",),
    "timing": ("times", "scatter"),
    "statistics": ("counts",),
    "convergence": ("convergence",),
    "projection": ("t_sne", "covariance"),
}
_MEASURED: tuple[TableKind, ...] = ("cells", "curve", "timing", "convergence", "projection")
_SEARCHED: tuple[TableKind, ...] = ("cells", "curve", "convergence", "projection")
_OF_KINDS: dict[str, tuple[TableKind, ...]] = {
    "task": _MEASURED,
    "seeds": _MEASURED,
    "written_rows": _MEASURED,
    "threads": _MEASURED,
    "gpus": _MEASURED,
    "feed": _MEASURED,
    "workers": _MEASURED,
    "reference": _MEASURED,
    "search": _SEARCHED,
    "baseline": ("cells", "curve"),
    "order": ("cells",),
    "figure": tuple(kind for kind, drawings in _DRAWINGS.items() if len(drawings) > 1),
    "axis": ("curve",),
}


def _written(key: str) -> str:
    return TableSpec.model_fields[key].alias or key


def names_of(metric: str) -> tuple[str, ...]:
    """Return what a metric may be called: `cold/auc` also `auc`, `recall@5` also `recall`."""
    name = metric.rsplit("/", 1)[-1]
    return metric, name, name.split("@")[0]


def find_table(name: str, results: Path) -> tuple[TableSpec, Path]:
    """Read `results/<name>/table.yaml`; return it with its folder.

    Raises:
        InputError: no such table, or it cannot be used as written.
    """
    folder = results / name
    known = sorted(str(path.parent.relative_to(results)) for path in results.glob("*/*/table.yaml"))
    if not known:
        raise InputError(f"unknown table {name!r}: {results} holds no tables; DIFFBENCH_RESULTS names another folder")
    if name not in known:  # so that a table has one name, and a run writes nowhere else
        raise InputError(f"unknown table {name!r}{did_you_mean(name, known)}")
    return load_yaml(folder / "table.yaml", TableSpec), folder
