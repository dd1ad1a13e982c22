"""Methods by name: from a YAML file in `search_spaces/` to a class and checked parameters."""

from __future__ import annotations

import importlib
import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, PydanticUserError, TypeAdapter, ValidationError

from harness.errors import InputError, did_you_mean
from harness.specs import FeedKind, Method, Parameters, TrialSpec, Value
from harness.stream_plan import ORDER_VERSION
from harness.table_rows import Row
from harness.tasks import load_task
from harness.tasks.context import Component, Task
from harness.yaml_files import load_yaml

_GIVEN_BY_TASKS = frozenset(
    {"self", "fields", "items", "history_length", "text_IE", "attribute_IA", "domain_I", "users"}
)
_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}


@dataclass(frozen=True)
class MethodCatalog:
    """The methods of a folder of YAML files."""

    folder: Path

    def names(self) -> tuple[str, ...]:
        """Return all method names."""
        return tuple(sorted(path.stem for path in self.folder.glob("*.yaml")))

    def find(self, name: str) -> Method:
        """Return a method.

        Raises:
            InputError: there is no such method, or its file cannot be used as written.
        """
        path = self.folder / f"{name}.yaml"
        if not path.is_file() and not self.names():
            where = f"{self.folder} holds no search spaces; DIFFBENCH_SEARCH_SPACES names another folder"
            raise InputError(f"unknown method {name!r}: {where}")
        if not path.is_file():
            raise InputError(f"unknown method {name!r}{did_you_mean(name, self.names())}")
        method = load_yaml(path, Method)
        if method.name != name:
            raise InputError(f"{path}: name is {method.name!r}; it must be the file's name, {name!r}")
        return method


def load_class(method: Method, base: type[Any] | None = None) -> type[Any]:
    """Import a method's class and check that it has every member of its interface.

    Raises:
        InputError: the module or class is missing, is not of the task's kind, or lacks a member.
    """
    module_name, class_name = method.class_path.split(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever somebody's module raises while it is imported
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise InputError(f"{method.name}: cannot import {method.class_path!r} ({reason})") from None
    cls = getattr(module, class_name, None)
    if cls is None:
        known = [name for name, value in vars(module).items() if inspect.isclass(value)]
        hint = did_you_mean(class_name, known)
        raise InputError(f"{method.name}: module {module_name!r} has no class {class_name!r}{hint}")
    if base is not None and not (isinstance(cls, type) and issubclass(cls, base)):
        raise InputError(f"{method.name}: {method.class_path} is not a {base.__name__} ({base.__module__})")
    missing = sorted(getattr(cls, "__abstractmethods__", ()))
    if missing:
        raise InputError(f"{method.name}: {method.class_path} lacks {', '.join(missing)} of its interface")
    return typing.cast(type[Any], cls)


def defaults(cls: type[Any]) -> dict[str, Any]:
    """Return the hyperparameters of a class with their defaults.

    They are the keyword-only arguments of its constructor, and of its base's where it hands on `**` what it does not
    name; whoever is nearer to the class says the default.
    """
    found: dict[str, Any] = {}
    for constructor in _constructors(cls):
        for argument in inspect.signature(constructor).parameters.values():
            if argument.kind is argument.KEYWORD_ONLY:
                found.setdefault(argument.name, argument.default)
    return found


def argument_types(cls: type[Any]) -> dict[str, Any]:
    """Return the annotated types, ranges included, of the arguments that `defaults` looks at."""
    found: dict[str, Any] = {}
    for constructor in _constructors(cls):
        found = typing.get_type_hints(constructor, include_extras=True) | found
    return found


def _constructors(cls: type[Any]) -> Iterator[Callable[..., None]]:
    """Yield a class's constructor and, as long as each hands on `**` what it does not name, that of the next base."""
    for base in cls.__mro__:
        constructor = vars(base).get("__init__")
        if constructor is not None:
            yield constructor
            arguments = inspect.signature(constructor).parameters.values()
            if not any(argument.kind is argument.VAR_KEYWORD for argument in arguments):
                return


def component_names(cls: type[Any]) -> tuple[str, ...]:
    """Return the constructor's arguments that are components: neither hyperparameters nor given by the task."""
    arguments = inspect.signature(cls).parameters.values()
    positional = [argument.name for argument in arguments if argument.kind is argument.POSITIONAL_OR_KEYWORD]
    return tuple(name for name in positional if name not in _GIVEN_BY_TASKS)


def _component_base(cls: type[Any], name: str) -> type[Any] | None:
    """Return the class that a constructor wants for a component, where it says so."""
    hint = typing.get_type_hints(cls.__init__).get(name)
    return hint if isinstance(hint, type) else None


def checked(cls: type[Any], parameters: Mapping[str, Value], where: str) -> dict[str, Any]:
    """Check hyperparameters against the types and ranges of a class's constructor; return them converted.

    Raises:
        InputError: an unknown name, a wrong type, or a value out of range.
    """
    known = defaults(cls)
    hints = argument_types(cls)
    for name, standard in known.items():
        if standard is inspect.Parameter.empty and name not in parameters:
            raise InputError(f"{where}: parameter {name!r} is missing; it has no default")
    result = {}
    for name, value in parameters.items():
        if name not in known:
            raise InputError(f"{where}: unknown parameter {name!r}{did_you_mean(name, known)}")
        result[name] = _converted(value, hints.get(name, Any), f"{where}: {name}")
    return result


def _converted(value: Value, hint: Any, where: str) -> Any:
    plain = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    if plain in _KINDS and (isinstance(value, str) or isinstance(value, bool) != (plain is bool)):
        raise InputError(f"{where} = {value!r}: {_KINDS[plain]} is expected")
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=ConfigDict(allow_inf_nan=False))
    except PydanticUserError:
        adapter = TypeAdapter(hint)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise InputError(f"{where} = {value!r}: {problem[0].lower()}{problem[1:]}") from None


@dataclass(frozen=True)
class Resolved:
    """A method with its components and settings, all parameters checked."""

    method: Component
    components: dict[str, Component]
    settings: BaseModel
    parameters: Parameters
    versions: dict[str, int]


def resolve(
    task: Task, method: Method, parameters: Parameters, catalog: MethodCatalog, start: TrialSpec | None
) -> Resolved:
    """Sort flat parameters into the method's, its components' and the task's, check them, and drop defaults.

    Components that the parameters do not name are those of the trial that this one starts from.

    Raises:
        InputError: an unknown parameter or component, or a value out of range.
    """
    cls = load_class(method, task.base)
    components: dict[str, Component] = {}
    canonical: Parameters = {}
    versions = {task.name: task.version, method.name: method.version}
    rest = dict(parameters)
    for name in component_names(cls):
        given = {key: rest.pop(key) for key in list(rest) if key == name or key.startswith(f"{name}.")}
        own = bool(given)
        earlier = start
        while not given and earlier is not None:
            given = {key: value for key, value in earlier.parameters.items() if key.split(".")[0] == name}
            earlier = earlier.starts_from
        if not isinstance(given.get(name), str):
            raise InputError(f"{method.name}: parameter {name!r} must name a {name}, for example {name}: deepfm")
        chosen = catalog.find(str(given.pop(name)))
        inner = {key.removeprefix(f"{name}."): value for key, value in given.items()}
        component_class = load_class(chosen, _component_base(cls, name))
        values = checked(component_class, inner, chosen.name)
        components[name] = Component(component_class, values)
        versions[chosen.name] = chosen.version
        if own:
            kept = _without_defaults(values, defaults(component_class))
            canonical |= {name: chosen.name} | {f"{name}.{key}": value for key, value in kept.items()}
    setting_names = set(task.settings.model_fields)
    mine = {key: value for key, value in rest.items() if key not in setting_names}
    values = _check_own(cls, mine, method, setting_names, components)
    settings = _settings(task, {key: value for key, value in rest.items() if key in setting_names})
    setting_defaults = task.settings().model_dump()
    canonical |= _without_defaults(values, defaults(cls)) | _without_defaults(settings.model_dump(), setting_defaults)
    return Resolved(Component(cls, values), components, settings, canonical, versions)


def _check_own(
    cls: type[Any], given: Parameters, method: Method, settings: set[str], components: Mapping[str, Component]
) -> dict[str, Any]:
    known = defaults(cls)
    for name in given:
        if name not in known:
            candidates = {*known, *settings, *components}
            for prefix, component in components.items():
                candidates |= {f"{prefix}.{key}" for key in defaults(component.cls)}
            raise InputError(f"{method.name}: unknown parameter {name!r}{did_you_mean(name, candidates)}")
    return checked(cls, given, method.name)


def _settings(task: Task, given: Parameters) -> BaseModel:
    from harness.yaml_files import validated

    return validated(given, task.settings, task.name)


def _without_defaults(values: Mapping[str, Any], standard: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in standard or value != standard[key]}


def trial_spec(
    *,
    task_name: str,
    dataset: str,
    dataset_hash: str,
    row: Row,
    parameters: Parameters,
    seed: int,
    threads: int,
    purpose: typing.Literal["search", "repeat"],
    gpus: float,
    catalog: MethodCatalog,
    start: TrialSpec | None,
    feed: FeedKind = "resident",
    workers: int = 1,
) -> TrialSpec:
    """Build the canonical spec of a trial of a table's row.

    Raises:
        InputError: a parameter is unknown or out of range.
    """
    if row.method is None:
        raise InputError(f"row {row.name!r} has no method: it is published only")
    task = load_task(task_name)
    resolved = resolve(task, catalog.find(row.method), parameters, catalog, start)
    order = {"stream_order": ORDER_VERSION} if feed == "stream" else {}
    return TrialSpec(
        task=task_name,
        dataset=dataset,
        dataset_hash=dataset_hash,
        method=row.method,
        parameters=resolved.parameters,
        versions=dict(sorted((resolved.versions | order).items())),
        seed=seed,
        threads=threads,
        purpose=purpose,
        gpus=gpus,
        starts_from=start,
        feed=feed,
        workers=workers,
    )
