"""The rows of a table's YAML file, and what has to go together in one."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from harness.specs import Parameters, Strict

MOST_THREADS = 4096
"""More than any machine has processors: beyond is a slip of the keyboard, and torch takes no number without end."""


class Row(Strict):
    """A row of a table. Without a method it is only published, and shown as not run.

    Rows of one `group` share its baseline and references (a backbone, for example). A row `beyond` the paper is shown
    apart and takes no part in the paper's order. With `shared_backbone` all repeats start from the first seed's trial
    of `starts_from`. A `fixed` row of a curve runs once, whatever the axis.

    A row that `evaluates` has the method and the parameters of the row that it starts from, with its own on top (other
    guidance, fewer steps): its trials train nothing, so nothing is searched for them. A row that is `pretrained_on`
    another dataset evaluates there what was trained here: its method trains on that dataset, or on several of them one
    after the other, and only ranks on the table's.

    An `untuned` row has published parameters in every run, and is compared with others' tuned ones: its own search
    would take too long. `threads` are its trials' own, in place of the table's.
    """

    name: str
    method: str | None = None
    parameters: Parameters = Field(default={})
    starts_from: str | None = None
    mark: str = ""
    group: str = ""
    beyond: bool = False
    shared_backbone: bool = False
    fixed: bool = False
    evaluates: bool = False
    pretrained_on: tuple[str, ...] = ()
    untuned: bool = False
    threads: Annotated[int, Field(ge=1, le=MOST_THREADS)] | None = None

    @field_validator("pretrained_on", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @property
    def trains(self) -> bool:
        """Whether parameters can be searched for it: it trains on the table's datasets."""
        return not (self.evaluates or self.pretrained_on)


class Point(Row):
    """A row of a curve at one value of the axis; `line` is the row as it is written."""

    line: str
    value: int | float


class Axis(Strict):
    """The parameter that a curve goes along, its values, and whether they are drawn on a logarithmic scale."""

    parameter: str
    values: tuple[int | float, ...] = Field(min_length=1)
    log: bool = False

    @field_validator("values")
    @classmethod
    def _distinct(cls, values: tuple[int | float, ...]) -> tuple[int | float, ...]:
        return each_once(values)

    @model_validator(mode="after")
    def _positive(self) -> Axis:
        if self.log and min(self.values) <= 0:
            raise ValueError(f"a logarithmic axis needs values above 0, not {min(self.values)}")
        return self

    def point(self, row: Row, value: int | float, starts_from: str | None) -> Point:
        """Return a row at a value of the axis."""
        content = row.model_dump() | {"name": self.name_at(row.name, value), "starts_from": starts_from}
        content["parameters"] = row.parameters | {self.parameter: value}
        return Point(**content, line=row.name, value=value)

    def name_at(self, row: str, value: int | float) -> str:
        """Return the name of a row at a value."""
        return f"{row} at {self.parameter} = {value:g}"


def check_start(row: Row, above: tuple[Row, ...], kind: str) -> None:
    """Check what a row starts from, and what goes only with a start or a kind of table; `above` are rows before it.

    Raises:
        ValueError: something does not go together; the message says where.
    """
    where = f"rows.{row.name}"
    start = next((other for other in above if other.name == row.starts_from), None)
    if row.untuned and (row.evaluates or (start is not None and not start.untuned)):
        raise ValueError(
            f"{where}.untuned: its parameters, or its start's, are those of {row.starts_from}; make that untuned too"
        )
    if row.fixed and kind != "curve":
        raise ValueError(f"{where}.fixed: only rows of a curve are; remove it")
    if row.pretrained_on:
        _check_pretraining(row, where, kind)
    if row.starts_from is None:
        for key in ("shared_backbone", "evaluates"):
            if getattr(row, key):
                raise ValueError(f"{where}.{key}: goes with starts_from, which is missing")
        return
    if kind == "timing":
        raise ValueError(f"{where}.starts_from: a timed trial trains for itself; give it the parameters of its start")
    if start is None:
        raise ValueError(f"{where}.starts_from: {row.starts_from!r} must stand above it")
    if row.method is not None and start.method is None:
        raise ValueError(f"{where}.starts_from: {row.starts_from!r} has no method, so it never runs")
    if row.fixed and not start.fixed:
        raise ValueError(f"{where}.starts_from: {row.starts_from!r} stands at every value; make it fixed too")
    if row.evaluates and row.method != start.method:
        raise ValueError(f"{where}.evaluates: {row.starts_from!r} is of method {start.method}; take the same one")


def _check_pretraining(row: Row, where: str, kind: str) -> None:
    if row.starts_from is not None:
        raise ValueError(f"{where}.pretrained_on: a row with starts_from has its start; remove one of the two")
    if row.method is None:
        raise ValueError(f"{where}.pretrained_on: a row without a method never runs; remove it")
    if kind == "timing":
        raise ValueError(f"{where}.pretrained_on: a timed trial trains for itself; remove it")
    each_once(row.pretrained_on)


def each_once(values: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the values.

    Raises:
        ValueError: one stands twice.
    """
    twice = [value for value in values if values.count(value) > 1]
    if twice:
        raise ValueError(f"{twice[0]!r} stands twice")
    return values
