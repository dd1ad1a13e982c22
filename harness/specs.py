"""The pydantic models of every YAML file, and of a trial."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, field_validator, model_validator

from harness.errors import InputError, did_you_mean
from harness.yaml_files import load_yaml

Scalar = bool | int | float | str | None
Value = Scalar | tuple[Scalar, ...]
Parameters = dict[str, Value]
Purpose = Literal["search", "repeat"]
Selection = Literal["published", "tuned"]
MetricName = Annotated[str, Field(pattern=r"^[a-z0-9_@]+(/[a-z0-9_@]+)?$")]


class Strict(BaseModel):
    """Unknown keys are errors, numbers are finite, values do not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True, allow_inf_nan=False)


class Choices(Strict):
    """A dimension of a search space with listed values."""

    choices: tuple[Scalar, ...] = Field(min_length=1)

    @property
    def samples(self) -> tuple[Scalar, ...]:
        """Values that show whether a parameter can take all of the dimension."""
        return self.choices


class Range(Strict):
    """A dimension between two numbers, integers when both are; `log` for a logarithmic scale."""

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> Range:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError(f"a logarithmic range needs low above 0, not {self.low}")
        return self

    @property
    def whole(self) -> bool:
        """Whether only integers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    @property
    def samples(self) -> tuple[Scalar, ...]:
        """Values that show whether a parameter can take all of the dimension: both ends and one in between."""
        return (self.low, self.high) if self.whole else (self.low, self.high, self.low + 0.382 * (self.high - self.low))


def _dimension_kind(value: object) -> str:
    listed = "choices" in value if isinstance(value, dict) else isinstance(value, Choices)
    return "Choices" if listed else "Range"  # no key is named so, see `yaml_files`


Dimension = Annotated[
    Annotated[Choices, Tag("Choices")] | Annotated[Range, Tag("Range")], Discriminator(_dimension_kind)
]


class Published(Strict):
    """The parameters that a paper calls best on some datasets, and where it says so."""

    datasets: tuple[str, ...]
    source: str
    parameters: Parameters = {}


class Method(Strict):
    """`search_spaces/<name>.yaml`: a method's class, its version, published parameters and search space.

    `version` is raised whenever the method's numbers would change.
    """

    name: str
    title: str
    class_path: Annotated[str, Field(alias="class", pattern=r"^[\w.]+:\w+$")]
    version: Annotated[int, Field(ge=1)]
    published: tuple[Published, ...] = ()
    space: dict[str, Dimension] = {}

    def published_for(self, dataset: str) -> Parameters | None:
        """Return the published parameters for a dataset: an entry that names it, else one for `*`, else None."""
        for wanted in (dataset, "*"):
            for entry in self.published:
                if wanted in entry.datasets:
                    return dict(entry.parameters)
        return None

    @property
    def space_hash(self) -> str:
        """Identify the search space in results: 12 hexadecimal digits."""
        return _digest({key: dimension.model_dump() for key, dimension in self.space.items()})[:12]


class Search(Strict):
    """How a study searches: its number of trials, how many it asks for at a time, and its seed."""

    trials: Annotated[int, Field(ge=1)] = 20
    parallel: Annotated[int, Field(ge=1)] = 1
    seed: Annotated[int, Field(ge=0)] = 2024


class Row(Strict):
    """A row of a table. Without a method it is only published, and shown as not run."""

    name: str
    method: str | None = None
    parameters: Parameters = {}
    starts_from: str | None = None
    mark: str = ""


class TableSpec(Strict):
    """`results/<paper>/<table>/table.yaml`: what a table of a paper asks for.

    `gpus` are reserved for each trial, and refused where no node has them; models still compute on the CPU.
    """

    title: str
    paper: str
    kind: Literal["cells"]
    task: str
    datasets: tuple[str, ...] = Field(min_length=1)
    metrics: tuple[MetricName, ...] = Field(min_length=1)
    tolerance: dict[str, float | str] = {}
    reference: str | None = None
    baseline: str | None = None
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field(min_length=1)
    threads: Annotated[int, Field(ge=1)] = 1
    gpus: Annotated[float, Field(ge=0)] = 0
    search: Search = Search()
    rows: tuple[Row, ...] = Field(min_length=1)

    @field_validator("seeds", "datasets", "metrics")
    @classmethod
    def _distinct(cls, values: tuple[object, ...]) -> tuple[object, ...]:
        twice = [value for value in values if values.count(value) > 1]
        if twice:
            raise ValueError(f"{twice[0]!r} stands twice")
        return values

    @model_validator(mode="after")
    def _rows_fit(self) -> TableSpec:
        names = [row.name for row in self.rows]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"rows: {name!r} stands twice")
        mentioned: list[tuple[str, str | None]] = [("reference", self.reference), ("baseline", self.baseline)]
        mentioned += [(f"rows.{row.name}.starts_from", row.starts_from) for row in self.rows]
        for key, mention in mentioned:
            if mention is not None and mention not in names:
                raise ValueError(f"{key}: no row {mention!r}{did_you_mean(mention, names)}")
        for index, row in enumerate(self.rows):
            if row.starts_from in names[index:]:
                raise ValueError(f"rows.{row.name}.starts_from: {row.starts_from!r} must stand above it")
            if row.method is not None and row.starts_from is not None and self.row(row.starts_from).method is None:
                raise ValueError(f"rows.{row.name}.starts_from: {row.starts_from!r} has no method, so it never runs")
        return self

    def row(self, name: str) -> Row:
        """Return the row of this name.

        Raises:
            InputError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        raise InputError(f"no row {name!r} in the table{did_you_mean(name, [row.name for row in self.rows])}")


class TrialSpec(Strict):
    """One trial: the unit of work.

    `parameters` hold only what does not stand at its default; `backbone: deepfm` names a component and
    `backbone.dropout` a parameter of it. `versions` are those of the task, the method and its components.
    """

    task: str
    dataset: str
    dataset_hash: str
    method: str
    parameters: Parameters
    versions: dict[str, int]
    seed: int
    threads: int
    purpose: Purpose
    gpus: float = 0
    starts_from: TrialSpec | None = None

    @property
    def id(self) -> str:
        """The hash of the canonical spec, 20 hexadecimal digits."""
        content = self.model_dump(mode="json", exclude={"starts_from"})
        content["starts_from"] = self.starts_from.id if self.starts_from else None
        return _digest(content)[:20]


def _digest(content: object) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def find_table(name: str, results: Path) -> tuple[TableSpec, Path]:
    """Read `results/<name>/table.yaml`; return it with its folder.

    Raises:
        InputError: no such table, or it cannot be used as written.
    """
    folder = results / name
    if not (folder / "table.yaml").is_file():
        known = sorted(str(path.parent.relative_to(results)) for path in results.glob("*/*/table.yaml"))
        raise InputError(f"unknown table {name!r}{did_you_mean(name, known)}")
    return load_yaml(folder / "table.yaml", TableSpec), folder
