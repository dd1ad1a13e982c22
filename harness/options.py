"""What the command line's options mean: names in lists, seeds in ranges, `a.b=c` overrides."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from harness.errors import InputError, did_you_mean
from harness.specs import Parameters, Search
from harness.table_rows import Point, Row
from harness.table_specs import TableSpec
from harness.yaml_files import parse_yaml, validated

_TABLE_KEYS = ("threads", "gpus", "feed", "workers")


def chosen_names(option: str, text: str | None, known: Iterable[str]) -> tuple[str, ...]:
    """Return the comma-separated names of an option, in the order of the known ones; all of them without the option.

    Raises:
        InputError: a name is not known, or none stands there.
    """
    names = tuple(known)
    if text is None:
        return names
    wanted = [part.strip() for part in text.split(",") if part.strip()]
    if not wanted:
        raise InputError(f"{option} {text!r}: expected names, separated by commas")
    for name in wanted:
        if name not in names:
            raise InputError(f"{option}: unknown name {name!r}{did_you_mean(name, names)}")
    return tuple(name for name in names if name in wanted)


def chosen_rows(text: str | None, rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the rows that `--methods` names, by the row's name, its method's, or all points of a curve by theirs.

    Raises:
        InputError: a name is neither.
    """
    rows = tuple(rows)
    if text is None:
        return tuple(row.name for row in rows)
    called = {row.name: {row.name, row.method or row.name} for row in rows}
    for row in rows:
        if isinstance(row, Point):
            called[row.name].add(row.line)
    wanted = set(chosen_names("--methods", text, set().union(*called.values())))
    return tuple(row for row, names in called.items() if names & wanted)


def chosen_seeds(text: str | None, table: TableSpec) -> tuple[int, ...]:
    """Return the seeds of `0-4,7`; the table's without the option.

    Raises:
        InputError: not a list of numbers and ranges, a seed stands twice, or the table does not have it, or any.
    """
    if text is None:
        return table.seeds
    if not table.seeds:
        raise InputError(f"--seeds {text!r}: a table of kind {table.kind} has no seeds; leave the option out")
    seeds: list[int] = []
    for part in text.split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            raise InputError(f"--seeds {text!r}: expected numbers and ranges such as 0-4,7")
        first, last = int(match[1]), int(match[2] or match[1])
        beyond = next((seed for seed in (first, last) if seed not in table.seeds), None)
        if beyond is not None:
            known = ", ".join(map(str, table.seeds))
            raise InputError(f"--seeds {text!r}: the table has no seed {beyond}, but {known}; add it to its table.yaml")
        seeds += (seed for seed in table.seeds if first <= seed <= last)
    if len(set(seeds)) < len(seeds) or not seeds:
        raise InputError(f"--seeds {text!r}: a seed stands twice, or a range runs backwards")
    return tuple(seeds)


def with_overrides(table: TableSpec, settings: Iterable[str]) -> tuple[TableSpec, Parameters]:
    """Apply `--set` options: `search.…`, `threads`, `gpus`, `feed` and `workers` change the table.

    All else is a parameter of its rows.

    Raises:
        InputError: not `key=value`, the same key twice, or a table key with a wrong value.
    """
    parameters: Parameters = {}
    changes: dict[str, Any] = {}
    search: dict[str, Any] = {}
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {setting!r}: expected key=value, for example search.trials=5")
        key, value = key.strip(), parse_yaml(text, f"--set {key.strip()}")
        if key in parameters or key in changes or key.removeprefix("search.") in search:
            raise InputError(f"--set {key}: stands twice")
        if key.startswith("search."):
            search[key.removeprefix("search.")] = value
        elif key in _TABLE_KEYS:
            changes[key] = value
        else:
            parameters[key] = tuple(value) if isinstance(value, list) else value
    if search:
        validated(search, Search, "--set search")
        changes["search"] = table.search.model_dump() | search
    if not changes:
        return table, parameters
    written = table.model_dump(by_alias=True, exclude_unset=True)
    if "threads" in changes:
        for row in written.get("rows", ()):
            row.pop("threads", None)  # what the user says is for all rows
    return validated(written | changes, TableSpec, "--set"), parameters
