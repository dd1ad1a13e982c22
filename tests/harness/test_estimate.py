from __future__ import annotations

from pathlib import Path

import pytest

from harness.estimate import Left, known_trials, left, wall_seconds
from harness.record import TrialResult
from harness.specs import TrialSpec
from tests.harness.small_table import made_result, play, small_next_item


def test_unknown_parts_make_the_whole_unknown() -> None:
    known = Left("d", "a", "repeat", 4, 8.0)
    assert wall_seconds([known, Left("d", "b", "repeat", 2, None)], slots=2) is None
    assert wall_seconds([known, Left("d", "b", "repeat", 0, None)], slots=2) == pytest.approx(4.0)


def test_a_trial_with_twice_the_threads_takes_two_slots(tmp_path: Path) -> None:
    rows = [{"name": "One", "method": "last_item"}, {"name": "Two", "method": "last_item", "threads": 2}]
    small = small_next_item(tmp_path, rows=rows, seeds=[0, 1])
    known = [
        made_result(spec).model_copy(update={"wall_seconds": 10.0})
        for line in small.schedule(selection="published").lines
        for spec in line.repeats.values()
    ]
    parts = left(small.schedule(selection="published"), known)
    assert [(part.trials, part.slots) for part in parts] == [(2, 1.0), (2, 2.0)]
    assert wall_seconds(parts, slots=2) == pytest.approx((2 * 10.0 + 2 * 10.0 * 2) / 2)


def test_what_is_left_takes_as_long_as_trials_like_it_took(tmp_path: Path) -> None:
    def timed(spec: TrialSpec) -> TrialResult:
        return made_result(spec).model_copy(update={"wall_seconds": 3.0 if spec.purpose == "search" else 5.0})

    small = small_next_item(tmp_path)
    fresh = small.schedule()
    assert wall_seconds(left(fresh, []), slots=1) is None
    play(fresh, small.store, timed, at_most=1)
    parts = left(small.schedule(), known_trials(small.store))
    assert [(part.purpose, part.trials) for part in parts] == [("search", 3), ("repeat", 3)]
    assert wall_seconds(parts, slots=2) == pytest.approx((3 * 3.0 + 3 * 3.0) / 2)  # no repeat is known yet
    play(small.schedule(), small.store, timed, at_most=4)
    parts = left(small.schedule(), known_trials(small.store))
    assert wall_seconds(parts, slots=1) == pytest.approx(2 * 5.0)


def test_what_is_evaluated_alone_takes_as_long_as_others_that_were(tmp_path: Path) -> None:
    def timed(spec: TrialSpec) -> TrialResult:
        return made_result(spec).model_copy(update={"wall_seconds": 60.0 if spec.starts_from is None else 2.0})

    rows = [
        {"name": "Trained", "method": "last_item", "parameters": {"size": 4}},
        {"name": "Evaluated", "method": "last_item", "starts_from": "Trained", "evaluates": True},
    ]
    small = small_next_item(tmp_path, seeds=[0, 1], rows=rows)
    play(small.schedule(selection="published"), small.store, timed, at_most=2)
    parts = left(small.schedule(selection="published"), known_trials(small.store))
    assert [(part.row, part.trials, part.seconds) for part in parts] == [
        ("Trained", 0, 0.0),
        ("Evaluated", 2, None),
    ]
    play(small.schedule(selection="published"), small.store, timed, at_most=1)
    assert wall_seconds(
        left(small.schedule(selection="published"), known_trials(small.store)), slots=1
    ) == pytest.approx(2.0)


def test_trials_of_another_size_tell_nothing(tmp_path: Path) -> None:
    """A row of size 64 that differs in one more parameter from that of its size than from that of another."""
    rows = [
        {"name": "Known", "method": "last_item", "parameters": {"size": 8}},
        {"name": "Asked", "method": "last_item", "parameters": {"size": 64}},
        {"name": "As large", "method": "last_item", "parameters": {"size": 64, "learning_rate": 0.2, "bias": False}},
    ]
    small = small_next_item(tmp_path, seeds=[0], rows=rows)
    schedule = small.schedule(selection="published")
    spec = {line.row.name: next(iter(line.repeats.values())) for line in schedule.lines}
    known = [
        made_result(spec[name]).model_copy(update={"wall_seconds": seconds})
        for name, seconds in (("Known", 10.0), ("As large", 500.0))
    ]
    asked = {part.row: part.seconds for part in left(schedule, known[:1])}
    assert (asked["Known"], asked["Asked"]) == (10.0, None)
    assert {part.row: part.seconds for part in left(schedule, known)}["Asked"] == 500.0


def test_of_the_trials_alike_those_that_differ_in_fewest_parameters_are_asked(tmp_path: Path) -> None:
    def timed(spec: TrialSpec) -> TrialResult:
        size = spec.parameters.get("size", 4)  # its default
        return made_result(spec).model_copy(update={"wall_seconds": float(str(size))})

    rows = [{"name": f"Size {size}", "method": "last_item", "parameters": {"size": size}} for size in (4, 64)]
    small = small_next_item(tmp_path, seeds=[0], rows=rows)
    play(small.schedule(selection="published"), small.store, timed, at_most=2)
    wider = small_next_item(tmp_path, seeds=[0, 1, 2], rows=rows)
    parts = left(wider.schedule(selection="published"), known_trials(small.store))
    assert [(part.row, part.trials, part.seconds) for part in parts] == [("Size 4", 2, 8.0), ("Size 64", 2, 128.0)]
    searches = [part for part in left(wider.schedule(), known_trials(small.store)) if part.purpose == "search"]
    assert [part.seconds for part in searches] == [
        4 * part.trials * scale for part, scale in zip(searches, (1, 16), strict=True)
    ]
