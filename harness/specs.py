"""The pydantic models of a method's YAML file and of a trial; those of a table are in `table_specs`."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, model_validator

Scalar = bool | int | float | str | None
Value = Scalar | tuple[Scalar, ...]
Parameters = dict[str, Value]
Purpose = Literal["search", "repeat"]
Selection = Literal["published", "tuned"]
FeedKind = Literal["resident", "stream"]


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


STANDS_IN = "-synthetic-"
"""In the name of a generated dataset, between that of the official one and its own number of rows."""
LONGER = "-history-"
"""In the name of a dataset with longer histories than usual, before their length."""


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
        """Return the published parameters for a dataset: an entry that names it, else one for `*`, else None.

        A generated dataset takes those of the one that it stands in for, one with longer histories those of its own
        with the usual ones.
        """
        official = dataset.partition(STANDS_IN)[0]
        for wanted in (dataset, official, official.partition(LONGER)[0], "*"):
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


class TrialSpec(Strict):
    """One trial: the unit of work.

    `parameters` hold only what does not stand at its default; `backbone: deepfm` names a component and
    `backbone.dropout` a parameter of it. `versions` are those of the task, the method and its components, and of a
    stream's order. A stream's rows come in an order of their own, and several workers draw their own random numbers,
    so both are part of what a trial is, where they are not the default.
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
    feed: FeedKind = "resident"
    workers: int = 1

    @property
    def id(self) -> str:
        """The hash of the canonical spec, 20 hexadecimal digits."""
        content = self.model_dump(mode="json", exclude={"starts_from"})
        content["starts_from"] = self.starts_from.id if self.starts_from else None
        for name in ("feed", "workers"):  # so that trials are found that ran before there was another feed
            if content[name] == type(self).model_fields[name].default:
                del content[name]
        return _digest(content)[:20]

    @property
    def starts_elsewhere(self) -> bool:
        """Whether it starts from a trial on other data, at once or over others."""
        start = self.starts_from
        return start is not None and (start.dataset_hash != self.dataset_hash or start.starts_elsewhere)

    @property
    def setup(self) -> str:
        """The hash of all but the seeds, here and of what it starts from: what the seeds of a row have in common."""
        return _digest(_without_seeds(self))[:20]


def _without_seeds(spec: TrialSpec) -> dict[str, object]:
    content = spec.model_dump(mode="json", exclude={"seed", "starts_from"})
    return content | {"starts_from": _without_seeds(spec.starts_from) if spec.starts_from else None}


def _digest(content: object) -> str:
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()
