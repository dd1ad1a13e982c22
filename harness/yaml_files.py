"""Reading YAML strictly: duplicate keys, unknown keys and wrong values are one-line errors that name file and line."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harness.errors import InputError, did_you_mean

Model = TypeVar("Model", bound=BaseModel)


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader, with duplicate keys refused and `1e-3` read as the number it looks like."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Hashable] = set()
        for key_node, _ in node.value:
            key, mark = self.construct_object(key_node, deep=True), key_node.start_mark
            if not isinstance(key, Hashable):
                raise InputError(f"{mark.name}, line {mark.line + 1}: a list or mapping cannot be a key")
            if key in seen:
                raise InputError(f"{mark.name}, line {mark.line + 1}: duplicate key {key!r}; keep one of them")
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


# YAML 1.1 wants a dot before the exponent; people write 1e-3 all the same.
_StrictLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:[0-9][0-9_]*)(?:\.[0-9_]*)?[eE][-+]?[0-9]+$"),
    list("-+0123456789"),
)


def parse_yaml(text: str, name: str) -> Any:
    """Parse YAML text; `name` is what errors call it.

    Raises:
        InputError: not YAML, or a key stands twice in one mapping.
    """
    try:
        loader = _StrictLoader(text)
        loader.name = name
        return loader.get_single_data()
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a date or number that is none
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{name}{line}: not valid YAML: {problem}") from None


def load_yaml(path: Path, model: type[Model]) -> Model:
    """Read a YAML file into a pydantic model.

    Raises:
        InputError: the file cannot be read, is not YAML, or does not fit the model.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({error})") from None
    return validated(parse_yaml(text, str(path)), model, str(path))


def validated(value: Any, model: type[Model], name: str) -> Model:
    """Check a value against a pydantic model; the first problem becomes a one-line InputError."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        raise InputError(f"{name}: {_first_problem(error, value, model)}") from None


def _first_problem(error: ValidationError, value: Any, model: type[BaseModel]) -> str:
    problems = error.errors(include_url=False)
    # A word that is not known explains one that is missing.
    problem = next((p for p in problems if p["type"] == "extra_forbidden"), problems[0])
    where = _location(problem, value)
    key = ".".join(where)
    if problem["type"] == "extra_forbidden":
        known = _keys_at(model, where[:-1])
        if where[-1] in known:
            return f"key {key!r} does not go with the keys beside it"
        return f"unknown key {key!r}{did_you_mean(where[-1], known)}"
    if problem["type"] == "missing":
        return f"key {key!r} is missing"
    if problem["type"] == "value_error":
        message = str(problem["ctx"]["error"]) if "ctx" in problem else problem["msg"]
        return f"{key}: {message}" if key else message
    given = repr(problem["input"])
    if not key:
        return f"keys and their values are expected, not {given[:80]}"
    # A union gives one problem for each of its members.
    alike = [other["msg"] for other in problems if _location(other, value) == where]
    expected = dict.fromkeys(message.removeprefix("Input should be ") for message in alike[1:])
    return f"{key}: {' or '.join([alike[0], *expected])}, not {given[:80]}"


def _location(problem: ErrorDetails, value: Any) -> list[str]:
    """Return the keys that lead to a problem, without the names that pydantic gives to a union's members."""
    where = []
    for part in problem["loc"]:
        in_mapping = isinstance(value, Mapping) and part in value
        in_list = isinstance(value, Sequence) and isinstance(part, int) and part < len(value)
        if in_mapping or in_list:
            value = value[part]
        elif problem["type"] != "missing" or part != problem["loc"][-1]:
            continue
        where.append(str(part))
    return where


def _keys_at(model: type[BaseModel], where: Iterable[str]) -> set[str]:
    """Return the keys that a model knows at a location, following lists, mappings and nested models."""
    current = [model]
    for part in where:
        fields = [field for m in current for name, field in m.model_fields.items() if part in (name, field.alias)]
        if fields:  # else a list's index or a mapping's key: the models within are the same
            current = [inner for field in fields for inner in _models_within(field.annotation)]
    return {field.alias or name for m in current for name, field in m.model_fields.items()}


def _models_within(annotation: Any) -> list[type[BaseModel]]:
    """Return the pydantic models inside an annotation such as `tuple[Row, ...]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in getattr(annotation, "__args__", ()) for model in _models_within(argument)]
