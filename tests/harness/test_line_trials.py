"""What a line's parameters are; what cannot be used is told before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness.errors import InputError
from tests.harness.small_table import PLAIN, SmallTable, play, small_next_item


def test_set_parameters_are_neither_searched_nor_published(one_row: SmallTable) -> None:
    jobs = play(one_row.schedule(overrides={"learning_rate": 0.5, "maximum_epochs": 1}), one_row.store)
    assert [job.spec.purpose for job in jobs] == ["search"] * 3 + ["repeat"] * 3  # three sizes
    assert {job.spec.parameters["learning_rate"] for job in jobs} == {0.5}
    assert {job.spec.parameters["maximum_epochs"] for job in jobs} == {1}


def test_parameters_of_a_row_are_not_searched(tmp_path: Path) -> None:
    table = small_next_item(tmp_path, rows=[{"name": "A", "method": "last_item", "parameters": {"size": 2}}])
    jobs = play(table.schedule(), table.store)
    assert {job.spec.parameters["size"] for job in jobs} == {2}
    assert len({job.spec.parameters["learning_rate"] for job in jobs}) == 4


def test_an_untuned_row_has_published_parameters_in_a_tuned_run(tmp_path: Path) -> None:
    rows = [{"name": "A", "method": "last_item"}, {"name": "B", "method": "last_item", "untuned": True, "threads": 2}]
    table = small_next_item(tmp_path, rows=rows, seeds=[0])
    schedule = table.schedule()
    play(schedule, table.store)
    tuned, untuned = schedule.lines
    assert (tuned.selection, untuned.selection) == ("tuned", "published")
    assert untuned.repeats[0].parameters == {"learning_rate": 0.03, "maximum_epochs": 2}
    assert (tuned.repeats[0].threads, untuned.repeats[0].threads) == (1, 2)
    (published, _) = table.schedule(selection="published", rows=["A", "B"]).lines
    assert published.repeats[0].parameters == untuned.repeats[0].parameters


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sise": 3}, r"^--set sise: no row that runs has this parameter; did you mean 'size'\?$"),
        ({"batch_sise": 3}, r"did you mean 'batch_size'\?$"),
    ],
)
def test_set_parameters_must_be_known(overrides: dict[str, Any], message: str, one_row: SmallTable) -> None:
    with pytest.raises(InputError, match=message):
        one_row.schedule(overrides=overrides)


def test_set_parameters_go_to_the_rows_that_know_them(pair: SmallTable) -> None:
    jobs = play(pair.schedule(overrides={"backbone.size": 8, "learning_rate": 0.1}), pair.store)
    assert all(job.spec.parameters.get("backbone.size") == (None if job.spec.starts_from else 8) for job in jobs)
    assert all(job.spec.parameters["learning_rate"] == 0.1 for job in jobs)


def test_a_method_without_published_parameters_says_so(pair: SmallTable) -> None:
    published = [{"datasets": ["ml-1m"], "source": "s", "parameters": {"learning_rate": 0.1}}]
    pair.add_method("plain", "tests.doubles:Plain", **PLAIN | {"published": published})
    with pytest.raises(
        InputError, match=r"^rows\.Bare: plain: no published parameters for small-interactions; they are for ml-1m$"
    ):
        pair.schedule(selection="published")


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"name": "A", "method": "lst_item"}, r"unknown method 'lst_item'; did you mean 'last_item'\?"),
        ({"name": "A", "method": "lacks_scores"}, "lacks optimizer, rank_scores of its interface"),
        ({"name": "A", "method": "last_item", "parameters": {"sise": 2}}, "unknown parameter 'sise'"),
        ({"name": "A", "method": "last_item", "parameters": {"size": 0}}, "size = 0: .*greater than 0"),
        (
            {"name": "A", "method": "sleeps", "parameters": {"seconds": -1}},
            "seconds = -1: .*equal to 0",
        ),
    ],
)
@pytest.mark.parametrize("selection", ["published", "tuned"])
def test_rows_that_cannot_run(row: dict[str, Any], message: str, selection: Any, tmp_path: Path) -> None:
    table = small_next_item(tmp_path, rows=[row])
    published = [{"datasets": ["*"], "source": "s"}]
    table.add_method("sleeps", "tests.doubles:Sleeps", published=published)
    table.add_method("lacks_scores", "tests.doubles:LacksScores", published=published)
    with pytest.raises(InputError, match=rf"^rows\.A: .*{message}"):
        table.schedule(selection=selection)


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"sise": {"choices": [1, 2]}}, r"unknown parameter 'sise'; did you mean 'size'\?"),
        ({"size": {"low": 0, "high": 8}}, "size = 0: .*greater than 0"),
        ({"dropout": {"low": 0.0, "high": 1.0}}, r"dropout = 1.0: .*less than 1"),
        ({"size": {"low": 1.0, "high": 8.0}}, r"size = 3\.67.*: .*integer"),
        ({"size": {"choices": [4, "8"]}}, "size = '8': a whole number is expected"),
    ],
)
def test_search_spaces_that_the_method_cannot_take(space: dict[str, Any], message: str, tmp_path: Path) -> None:
    one_row = small_next_item(tmp_path)
    one_row.add_method("last_item", "tests.doubles:LastItem", space=space)
    with pytest.raises(InputError, match=message):
        one_row.schedule()
