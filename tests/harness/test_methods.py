from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from harness.methods import MethodCatalog, checked, component_names, defaults, load_class, resolve, trial_spec
from harness.specs import Method, Parameters, TrialSpec
from harness.table_rows import Row
from harness.tasks import load_task
from tests import doubles
from tests.harness.small_table import SmallTable, small_cold_start, small_next_item
from trainables.base import ColdStartMethod, NextItemModel, NextItemRanker, PositiveFloat, PositiveInt
from trainables.next_item.caser import Caser


@pytest.fixture(scope="module")
def next_item(tmp_path_factory: pytest.TempPathFactory) -> SmallTable:
    return small_next_item(tmp_path_factory.mktemp("next_item"))


@pytest.fixture
def cold_start(tmp_path: Path) -> SmallTable:
    return small_cold_start(tmp_path)


def method(class_path: str) -> Method:
    return Method(name="m", title="M", class_path=class_path, version=1)


def spec_of(small: SmallTable, row: Row, parameters: Parameters, start: TrialSpec | None = None) -> TrialSpec:
    return trial_spec(
        task_name=small.spec.task,
        dataset="d",
        dataset_hash="h",
        row=row,
        parameters=parameters,
        seed=0,
        threads=1,
        purpose="repeat",
        gpus=0,
        catalog=small.catalog,
        start=start,
    )


# Finding methods


def test_methods_are_found_by_name(next_item: SmallTable) -> None:
    assert next_item.catalog.find("last_item").class_path == "tests.doubles:LastItem"
    assert "last_item" in next_item.catalog.names()
    with pytest.raises(InputError, match=r"^unknown method 'lst_item'; did you mean 'last_item'\?$"):
        next_item.catalog.find("lst_item")


def test_an_empty_catalog_knows_nothing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^unknown method 'a': .* holds no search spaces; DIFFBENCH_SEARCH_SPACES"):
        MethodCatalog(tmp_path / "missing").find("a")


def test_the_name_in_the_file_must_be_the_files(cold_start: SmallTable) -> None:
    path = cold_start.places.search_spaces / "plain.yaml"
    path.rename(path.with_name("plein.yaml"))
    with pytest.raises(InputError, match=r"plein\.yaml: name is 'plain'; it must be the file's name, 'plein'$"):
        cold_start.catalog.find("plein")


# Loading classes


def test_a_class_is_loaded() -> None:
    assert load_class(method("tests.doubles:LastItem"), NextItemModel) is doubles.LastItem


@pytest.mark.parametrize(
    ("class_path", "message"),
    [
        ("tests.doubels:LastItem", r"cannot import 'tests\.doubels:LastItem' \(ModuleNotFoundError: .*\)$"),
        ("tests.doubles:LastItm", r"module 'tests\.doubles' has no class 'LastItm'; did you mean 'LastItem'\?$"),
        ("tests.doubles:Plain", r"tests\.doubles:Plain is not a NextItemModel \(trainables\.base\)$"),
        ("tests.doubles:SPARE", "is not a NextItemModel"),
        ("tests.doubles:LacksScores", r"tests\.doubles:LacksScores lacks optimizer, rank_scores of its interface$"),
        ("trainables.base:NextItemModel", "lacks loss, optimizer, rank_scores of its interface$"),
    ],
)
def test_classes_that_cannot_be_used(class_path: str, message: str) -> None:
    with pytest.raises(InputError, match=f"^m: .*{message}"):
        load_class(method(class_path), NextItemModel)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("def broken(:", "SyntaxError"),
        ("import nowhere_to_be_found", "ModuleNotFoundError: No module named 'nowhere_to_be_found'"),
        ("from os import nothing", "ImportError"),
        ("import os\nos.nothing", "AttributeError: module 'os' has no attribute 'nothing'"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two lines"),
    ],
)
def test_modules_that_fail_while_they_are_imported(
    source: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "somebodys_method.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "somebodys_method", raising=False)
    with pytest.raises(InputError, match=rf"^m: cannot import 'somebodys_method:Model' \({reason}") as caught:
        load_class(method("somebodys_method:Model"), NextItemModel)
    assert "\n" not in str(caught.value)


# Constructors


def test_hyperparameters_are_the_keyword_only_arguments() -> None:
    assert defaults(doubles.LastItem) == {"learning_rate": 0.1, "size": 4, "dropout": 0.0, "bias": True}
    assert component_names(doubles.LastItem) == ()
    assert component_names(doubles.Plain) == ("backbone",)
    assert component_names(doubles.ItemFactors) == ()
    assert component_names(Caser) == () and "users" not in defaults(Caser)


def test_what_a_constructor_hands_on_is_a_parameter_too() -> None:
    """The nearer class says the default; a constructor that hands nothing on ends the search."""

    class Base:
        def __init__(self, *, size: PositiveInt = 3, rate: PositiveFloat = 0.1) -> None: ...

    class Middle(Base):
        def __init__(self, *, rate: PositiveFloat = 0.5, **shared: Any) -> None:
            super().__init__(rate=rate, **shared)

    class Closed(Base):
        def __init__(self, *, depth: int = 1) -> None:
            super().__init__()

    class Unchanged(Middle): ...

    assert defaults(Unchanged) == defaults(Middle) == {"rate": 0.5, "size": 3}
    assert defaults(Closed) == {"depth": 1}
    assert checked(Unchanged, {"size": 7}, "here") == {"size": 7}
    with pytest.raises(InputError, match="here: size = 0: input should be greater than 0"):
        checked(Middle, {"size": 0}, "here")


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("learning_rate", 1, 1.0),
        ("learning_rate", 0.5, 0.5),
        ("size", 8, 8),
        ("size", 8.0, 8),
        ("bias", False, False),
    ],
)
def test_values_become_what_the_constructor_declares(name: str, value: Any, expected: Any) -> None:
    converted = checked(doubles.LastItem, {name: value}, "m")[name]
    assert (type(converted), converted) == (type(expected), expected)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("learning_rat", 0.1, r"unknown parameter 'learning_rat'; did you mean 'learning_rate'\?"),
        ("learning_rate", "1e-3", "learning_rate = '1e-3': a number is expected"),
        ("learning_rate", True, "learning_rate = True: a number is expected"),
        ("learning_rate", None, "learning_rate = None: .*number"),
        ("learning_rate", (0.1, 0.2), r"learning_rate = \(0.1, 0.2\): .*number"),
        ("learning_rate", 0.0, "learning_rate = 0.0: .*greater than 0"),
        ("learning_rate", -1, "learning_rate = -1: .*greater than 0"),
        ("learning_rate", float("inf"), "learning_rate = inf: .*finite"),
        ("learning_rate", float("nan"), "learning_rate = nan: "),
        ("dropout", 1.0, "dropout = 1.0: .*less than 1"),
        ("size", 8.5, "size = 8.5: .*integer"),
        ("size", "8", "size = '8': a whole number is expected"),
        ("bias", "no", "bias = 'no': true or false is expected"),
        ("bias", 1, "bias = 1: true or false is expected"),
    ],
)
def test_values_that_the_constructor_does_not_allow(name: str, value: Any, message: str) -> None:
    with pytest.raises(InputError, match=f"^m: {message}") as caught:
        checked(doubles.LastItem, {name: value}, "m")
    assert "\n" not in str(caught.value)


def test_a_parameter_without_a_default_must_be_given() -> None:
    assert checked(doubles.ReadsTestData, {"folder": "f"}, "m") == {"folder": "f"}
    with pytest.raises(InputError, match=r"^m: parameter 'folder' is missing; it has no default$"):
        checked(doubles.ReadsTestData, {}, "m")


# Trials of a row


LAST = Row(name="Last", method="last_item")


def test_parameters_at_their_defaults_are_left_out(next_item: SmallTable) -> None:
    standard = spec_of(next_item, LAST, {})
    assert standard.parameters == {}
    assert spec_of(next_item, LAST, {"size": 4, "learning_rate": 0.1, "batch_size": 256}) == standard
    assert spec_of(next_item, LAST, {"size": 4.0}).id == standard.id
    assert spec_of(next_item, LAST, {"size": 8, "batch_size": 32}).parameters == {"size": 8, "batch_size": 32}


def test_one_number_spelled_differently_is_one_trial(next_item: SmallTable) -> None:
    specs = [spec_of(next_item, LAST, {"learning_rate": rate}) for rate in (1, 1.0, 1e0, 10e-1)]
    assert len({spec.id for spec in specs}) == 1
    assert spec_of(next_item, LAST, {"learning_rate": 0.001}).id == spec_of(next_item, LAST, {"learning_rate": 1e-3}).id
    assert len({spec_of(next_item, LAST, {"size": size}).id for size in (8, 8.0)}) == 1


def test_the_order_of_parameters_does_not_matter(next_item: SmallTable) -> None:
    parameters: Parameters = {"size": 8, "learning_rate": 0.2, "maximum_epochs": 3}
    assert spec_of(next_item, LAST, parameters).id == spec_of(next_item, LAST, dict(reversed(parameters.items()))).id


def test_the_id_follows_the_methods_version(tmp_path: Path) -> None:
    small = small_next_item(tmp_path)
    before = spec_of(small, LAST, {})
    small.add_method("last_item", "tests.doubles:LastItem", version=2, title="another title")
    after = spec_of(small, LAST, {})
    assert (before.versions["last_item"], after.versions["last_item"]) == (1, 2)
    assert before.id != after.id
    small.add_method("last_item", "tests.doubles:LastItem", title="another title")
    assert spec_of(small, LAST, {}).id == before.id


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"sise": 8}, r"^last_item: unknown parameter 'sise'; did you mean 'size'\?$"),
        ({"batch_sise": 8}, r"^last_item: unknown parameter 'batch_sise'; did you mean 'batch_size'\?$"),
        ({"batch_size": 0}, "^next_item: batch_size: .*greater than 0, not 0$"),
        ({"size": 0}, "^last_item: size = 0: .*greater than 0"),
    ],
)
def test_parameters_that_nobody_takes(parameters: Parameters, message: str, next_item: SmallTable) -> None:
    with pytest.raises(InputError, match=message):
        spec_of(next_item, LAST, parameters)


def test_a_row_without_a_method_has_no_trials(next_item: SmallTable) -> None:
    with pytest.raises(InputError, match=r"^row 'TIGER' has no method: it is published only$"):
        spec_of(next_item, Row(name="TIGER"), {})


def test_an_unknown_task() -> None:
    with pytest.raises(InputError, match=r"^unknown task 'next_itm'; did you mean 'next_item'\?$"):
        load_task("next_itm")


# Components


BARE = Row(name="Bare", method="plain")


def test_a_component_and_its_parameters(cold_start: SmallTable) -> None:
    spec = spec_of(
        cold_start, BARE, {"backbone": "item_factors", "backbone.size": 8, "backbone.dropout": 0, "epochs": 2}
    )
    assert spec.parameters == {"backbone": "item_factors", "backbone.size": 8, "epochs": 2}
    assert spec.versions == {"cold_start": load_task("cold_start").version, "item_factors": 1, "plain": 1}
    task = load_task("cold_start")
    resolved = resolve(task, cold_start.catalog.find("plain"), spec.parameters, cold_start.catalog, None)
    assert resolved.components["backbone"].cls is doubles.ItemFactors
    assert dict(resolved.components["backbone"].parameters) == {"size": 8}
    assert dict(resolved.method.parameters) == {"epochs": 2}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"backbone": "item_factor"}, r"^unknown method 'item_factor'; did you mean 'item_factors'\?$"),
        ({}, "^plain: parameter 'backbone' must name a backbone"),
        ({"backbone": 3}, "^plain: parameter 'backbone' must name a backbone"),
        ({"backbone.size": 3}, "^plain: parameter 'backbone' must name a backbone"),
        ({"backbone": "item_factors", "backbone.sise": 3}, r"unknown parameter 'sise'; did you mean 'size'\?$"),
        ({"backbone": "item_factors", "backbone.size": 0}, "^item_factors: size = 0: .*greater than 0"),
        ({"backbone": "item_factors", "bckbone.size": 3}, r"did you mean 'backbone\.size'\?$"),
        ({"backbone": "plain"}, r"^plain: tests\.doubles:Plain is not a CtrModel \(trainables\.base\)$"),
    ],
)
def test_components_that_cannot_be_used(parameters: Parameters, message: str, cold_start: SmallTable) -> None:
    with pytest.raises(InputError, match=message):
        spec_of(cold_start, BARE, parameters)


def test_a_component_comes_from_the_trial_that_this_one_starts_from(cold_start: SmallTable) -> None:
    parameters: Parameters = {"backbone": "item_factors", "backbone.size": 8}
    start = spec_of(cold_start, BARE, parameters)
    spec = spec_of(cold_start, BARE, {"new": 1.0}, start)
    assert spec.parameters == {"new": 1.0}
    assert spec.versions["item_factors"] == 1
    last = spec_of(cold_start, BARE, {"new": 2.0}, spec)  # and from the one before
    task = load_task("cold_start")
    for each in (spec, last):
        resolved = resolve(
            task, cold_start.catalog.find("plain"), each.parameters, cold_start.catalog, each.starts_from
        )
        assert resolved.components["backbone"].cls is doubles.ItemFactors
        assert dict(resolved.components["backbone"].parameters) == {"size": 8}


def test_the_tasks_know_their_interfaces() -> None:
    assert load_task("next_item").base is NextItemRanker
    assert load_task("cold_start").base is ColdStartMethod
