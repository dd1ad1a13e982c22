from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.progress import _counts
from harness.record import TrialResult
from harness.request import Job, Line
from harness.running import run_table
from harness.schedule import Schedule
from harness.specs import TrialSpec
from harness.tablerun import Options
from harness.tables import to_markdown
from harness.trial import CHECKPOINT
from tests.harness.small_table import TABLE, SmallTable, made_result, play, small_next_item

CHAIN: list[dict[str, Any]] = [
    {"name": "First", "method": "last_item", "parameters": {"size": 2}},
    {"name": "Second", "method": "last_item", "parameters": {"size": 4}, "starts_from": "First"},
    {"name": "Third", "method": "last_item", "parameters": {"size": 8}, "starts_from": "Second"},
    {"name": "Other", "method": "last_item", "starts_from": "First"},
    {"name": "Printed only"},
]


def line_of(schedule: Schedule, row: str) -> Line:
    return next(line for line in schedule.lines if line.row.name == row)


def ids(jobs: list[Job]) -> list[str]:
    return [job.spec.id for job in jobs]


def failing(fails: Callable[[TrialSpec], bool]) -> Callable[[TrialSpec], TrialResult]:
    def result_of(spec: TrialSpec) -> TrialResult:
        if fails(spec):
            return TrialResult(id=spec.id, spec=spec, status="failed", error="why")
        return made_result(spec)

    return result_of


# One row


def test_the_search_comes_before_the_repeats(one_row: SmallTable) -> None:
    schedule = one_row.schedule()
    jobs = play(schedule, one_row.store)
    assert [job.spec.purpose for job in jobs] == ["search"] * 4 + ["repeat"] * 3
    assert [job.spec.seed for job in jobs] == [2024] * 4 + [0, 1, 2]
    assert schedule.done
    assert schedule.next_job() is None
    searched = {job.spec.id: made_result(job.spec).metrics["validation/recall@5"] for job in jobs[:4]}
    best = max(jobs[:4], key=lambda job: searched[job.spec.id]).spec
    assert all(job.spec.parameters == best.parameters for job in jobs[4:])
    assert best.parameters["maximum_epochs"] == 2  # published, and not in the space


def test_only_checkpoints_that_somebody_needs_are_kept(one_row: SmallTable) -> None:
    jobs = play(one_row.schedule(), one_row.store)
    assert [job.keep_checkpoint for job in jobs] == [False] * 4 + [True] * 3


def test_published_parameters_need_no_search(one_row: SmallTable) -> None:
    jobs = play(one_row.schedule(selection="published"), one_row.store)
    assert [job.spec.purpose for job in jobs] == ["repeat"] * 3
    assert jobs[0].spec.parameters == {"learning_rate": 0.03, "maximum_epochs": 2}


def test_a_second_run_has_nothing_to_do(one_row: SmallTable) -> None:
    play(one_row.schedule(), one_row.store)
    again = one_row.schedule()
    assert play(again, one_row.store) == []
    assert again.done
    assert len(again.lines[0].results) == 3


@pytest.mark.parametrize("at_once", [1, 3])
def test_an_interrupted_run_goes_on_at_any_point(at_once: int, tmp_path: Path) -> None:
    def small(name: str) -> SmallTable:
        return small_next_item(tmp_path / name, search={"trials": 5, "parallel": 2})

    undisturbed = small("whole")
    whole = play(undisturbed.schedule(), undisturbed.store, at_once=at_once)
    finished = undisturbed.schedule()
    list(finished.remaining())
    repeats = line_of(finished, "Last").repeats
    assert sorted(repeats) == [0, 1, 2]
    for stopped in range(len(whole) + 1):
        table = small(f"stopped at {stopped}")
        before = play(table.schedule(), table.store, at_most=stopped, at_once=at_once, shuffle_seed=stopped)
        schedule = table.schedule()
        after = play(schedule, table.store, at_once=at_once, shuffle_seed=stopped + 100)
        assert sorted(ids(before + after)) == sorted(ids(whole))
        assert schedule.done
        assert line_of(schedule, "Last").repeats == repeats


@pytest.mark.parametrize("lost", range(0, 8, 2))
def test_whatever_is_lost_runs_again_and_nothing_else(lost: int, one_row: SmallTable) -> None:
    whole = ids(play(one_row.schedule(), one_row.store))
    missing = [trial_id for index, trial_id in enumerate(whole) if index % 4 == lost % 4 or index == lost - 1]
    for trial_id in missing:
        one_row.store.remove(trial_id)
    assert ids(play(one_row.schedule(), one_row.store)) == missing


def test_a_damaged_record_runs_again(one_row: SmallTable) -> None:
    whole = ids(play(one_row.schedule(), one_row.store))
    path = one_row.folder / "runs" / whole[5] / "result.json"
    path.write_bytes(path.read_bytes()[:-3])
    assert ids(play(one_row.schedule(), one_row.store)) == [whole[5]]


def test_rounds_run_side_by_side(tmp_path: Path) -> None:
    table = small_next_item(tmp_path, search={"trials": 4, "parallel": 2})
    schedule = table.schedule()
    first, second = schedule.next_job(), schedule.next_job()
    assert first is not None
    assert second is not None
    assert schedule.next_job() is None  # the next round waits for both
    schedule.finish(made_result(first.spec))
    assert schedule.next_job() is None
    schedule.finish(made_result(second.spec))
    third = schedule.next_job()
    assert third is not None
    assert len({first.spec.id, second.spec.id, third.spec.id}) == 3


def test_what_runs_is_not_handed_out_twice(one_row: SmallTable) -> None:
    schedule = one_row.schedule(selection="published")
    jobs = [schedule.next_job() for _ in range(4)]
    assert len({job.spec.id for job in jobs if job is not None}) == 3
    assert jobs[3] is None
    assert not schedule.done


def test_seeds_and_rows_of_a_request(tmp_path: Path) -> None:
    table = small_next_item(tmp_path, rows=CHAIN)
    jobs = play(table.schedule(rows=["Second"], seeds=[7], selection="published"), table.store)
    assert [(job.label, job.spec.seed) for job in jobs] == [
        ("small-sequences · First · seed 7", 7),
        ("small-sequences · Second · seed 7", 7),
    ]


# Rows that start from others


def test_a_row_waits_for_the_one_it_starts_from(pair: SmallTable) -> None:
    schedule = pair.schedule()
    jobs = play(schedule, pair.store)
    assert schedule.done
    done: set[str] = set()
    for job in jobs:
        start = job.spec.starts_from
        assert start is None or start.id in done
        done.add(job.spec.id)
    chosen = line_of(schedule, "Bare").parameters
    assert chosen is not None
    for job in jobs:
        start = job.spec.starts_from
        if start is not None:
            assert (start.seed, start.purpose) == (job.spec.seed, job.spec.purpose)
            assert start.parameters["backbone"] == chosen["backbone"]
            assert start.parameters.get("learning_rate", 0.01) == chosen["learning_rate"]


def test_a_start_is_run_once_for_all_that_start_from_it(tmp_path: Path) -> None:
    table = small_next_item(tmp_path, rows=CHAIN)
    schedule = table.schedule()
    jobs = play(schedule, table.store, at_once=3)
    assert schedule.done
    assert len(set(ids(jobs))) == len(jobs)
    second, other = (line_of(schedule, name).repeats[1].starts_from for name in ("Second", "Other"))
    assert second == other == line_of(schedule, "First").repeats[1]
    third = line_of(schedule, "Third").repeats[1]
    assert third.starts_from is not None
    assert third.starts_from.starts_from == second


def test_a_start_that_is_searched_keeps_its_checkpoint(pair: SmallTable) -> None:
    jobs = play(pair.schedule(), pair.store)
    assert all(job.keep_checkpoint for job in jobs if job.spec.starts_from is None)


def test_an_untuned_row_can_start_from_a_tuned_one(tmp_path: Path) -> None:
    rows = [CHAIN[0], {"name": "Fixed", "method": "sleeps", "starts_from": "First"}]
    table = small_next_item(tmp_path, rows=rows)
    schedule = table.schedule()
    jobs = play(schedule, table.store)
    assert schedule.done
    assert [(job.spec.method, job.spec.purpose) for job in jobs] == [
        *[("last_item", "search")] * 4,
        *[("last_item", "repeat")] * 3,
        *[("sleeps", "repeat")] * 3,
    ]
    assert [line.selection for line in schedule.lines] == ["tuned", "tuned"]
    own = {"datasets": ["*"], "source": "chosen here", "parameters": {}}
    table.add_method("sleeps", "tests.doubles:Sleeps", published=[own])
    published = table.schedule(selection="published")
    play(published, table.store)
    assert [line.selection for line in published.lines] == ["published", "published"]


def test_an_interrupted_chain_goes_on_at_any_point(tmp_path: Path) -> None:
    undisturbed = small_next_item(tmp_path / "whole", rows=CHAIN, seeds=[0, 1], search={"trials": 2})
    whole = ids(play(undisturbed.schedule(), undisturbed.store))
    for stopped in range(0, len(whole), 3):
        table = small_next_item(tmp_path / str(stopped), rows=CHAIN, seeds=[0, 1], search={"trials": 2})
        before = play(table.schedule(), table.store, at_most=stopped, at_once=2)
        after = play(table.schedule(), table.store, at_once=2)
        assert sorted(ids(before + after)) == sorted(whole)


def test_a_start_without_its_checkpoint_runs_again(pair: SmallTable) -> None:
    play(pair.schedule(), pair.store)
    schedule = pair.schedule()
    play(schedule, pair.store)
    start, dependent = (line_of(schedule, name).repeats[1] for name in ("Bare", "Plain"))
    (pair.folder / "runs" / start.id / CHECKPOINT).write_bytes(b"damaged")
    pair.store.remove(dependent.id)
    assert ids(play(pair.schedule(), pair.store)) == [start.id, dependent.id]


def test_a_start_that_leaves_no_checkpoint_is_not_run_for_ever(pair: SmallTable) -> None:
    schedule = pair.schedule(selection="tuned")
    jobs = []
    while (job := schedule.next_job()) is not None:
        jobs.append(job)
        assert len(jobs) < 50
        schedule.finish(pair.store.write(made_result(job.spec), {}))
    assert schedule.done
    assert len(set(ids(jobs))) == len(jobs)


# Failures


def test_failed_search_trials_are_passed_over(one_row: SmallTable) -> None:
    fails = failing(lambda spec: spec.purpose == "search" and spec.parameters.get("size", 4) != 8)
    schedule = one_row.schedule(overrides={"learning_rate": 0.5})
    play(schedule, one_row.store, fails)
    assert line_of(schedule, "Last").parameters == {"learning_rate": 0.5, "maximum_epochs": 2, "size": 8}


@pytest.mark.parametrize("failed_repeats", [0, 1])
def test_failed_search_trials_are_counted_in_the_exit_code_the_progress_and_the_table(
    failed_repeats: int, one_row: SmallTable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three sizes two fail in the search."""
    monkeypatch.setattr("harness.figures.write_figures", lambda table, folder: None)
    one_row.add_method("last_item", "tests.doubles:LastItem", space={"size": {"choices": [2, 4, 8]}})
    fails = failing(
        lambda spec: spec.parameters.get("size", 4) != 8 if spec.purpose == "search" else spec.seed < failed_repeats
    )
    schedule = one_row.schedule()
    play(schedule, one_row.store, fails)
    assert _counts(line_of(schedule, "Last"), (0, 1, 2))[::3] == ("3/3", str(2 + failed_repeats))
    table, failures = run_table(Options(TABLE), one_row.places, lambda line: None, address=None, cpus=None, serial=True)
    assert failures == 2 + failed_repeats
    assert "| 3 trials, 3 distinct, 2 failed, space " in to_markdown(table)


def test_a_row_whose_search_fails_has_a_problem_and_so_has_what_starts_from_it(tmp_path: Path) -> None:
    table = small_next_item(tmp_path, rows=[*CHAIN, {"name": "Alone", "method": "last_item"}])
    schedule = table.schedule()
    fails = failing(lambda spec: spec.purpose == "search" and spec.parameters.get("size") == 2 and not spec.starts_from)
    jobs = play(schedule, table.store, fails)
    assert schedule.done
    problems = {line.row.name: line.problem for line in schedule.lines}
    assert problems == {
        "First": "all 4 search trials failed",
        "Second": "First, which it starts from: all 4 search trials failed",
        "Third": "Second, which it starts from: First, which it starts from: all 4 search trials failed",
        "Other": "First, which it starts from: all 4 search trials failed",
        "Alone": "",
    }
    assert {job.spec.parameters.get("size", 4) for job in jobs if job.spec.purpose == "repeat"} <= {2, 4, 8}
    assert len(line_of(schedule, "Alone").results) == 3


def test_failed_repeats_are_results_and_do_not_stop_the_others(one_row: SmallTable) -> None:
    schedule = one_row.schedule(selection="published")
    play(schedule, one_row.store, failing(lambda spec: spec.seed == 1))
    assert schedule.done
    assert sorted(result.status for result in schedule.lines[0].results.values()) == ["failed", "finished", "finished"]
    assert play(one_row.schedule(selection="published"), one_row.store) == []


def test_failed_trials_run_again_when_asked(one_row: SmallTable) -> None:
    play(one_row.schedule(selection="published"), one_row.store, failing(lambda spec: spec.seed == 1))
    schedule = one_row.schedule(selection="published", retry_failed=True)
    assert [job.spec.seed for job in play(schedule, one_row.store, failing(lambda spec: True))] == [1]
    assert schedule.done  # once, not for ever
    last = one_row.schedule(selection="published", retry_failed=True)
    play(last, one_row.store)
    assert {result.status for result in last.lines[0].results.values()} == {"finished"}


def test_a_failed_search_trial_that_is_run_again_can_be_chosen(one_row: SmallTable) -> None:
    best = failing(lambda spec: spec.purpose == "search" and spec.parameters.get("size", 4) == 4)
    play(one_row.schedule(overrides={"learning_rate": 0.5}), one_row.store, best)
    schedule = one_row.schedule(overrides={"learning_rate": 0.5}, retry_failed=True)
    jobs = play(schedule, one_row.store)
    assert [job.spec.purpose for job in jobs] == ["search"] + ["repeat"] * 3
    assert line_of(schedule, "Last").parameters == {"learning_rate": 0.5, "maximum_epochs": 2, "size": 4}


# What is left


def test_what_is_left_to_run(one_row: SmallTable) -> None:
    def left(**keys: Any) -> list[tuple[str, int]]:
        return [(purpose, count) for _, purpose, count in one_row.schedule(**keys).remaining()]

    assert left() == [("search", 4), ("repeat", 3)]
    assert left(selection="published") == [("repeat", 3)]
    whole = ids(play(one_row.schedule(), one_row.store))
    assert left() == [("search", 0), ("repeat", 0)]
    one_row.store.remove(whole[4])  # the first of the repeats: the others are there
    assert left() == [("search", 0), ("repeat", 1)]
    one_row.store.remove(whole[6])
    assert left() == [("search", 0), ("repeat", 2)]


def test_looking_at_what_is_left_changes_nothing(one_row: SmallTable) -> None:
    schedule = one_row.schedule()
    list(schedule.remaining())
    assert len(play(schedule, one_row.store)) == 7
    assert one_row.store.unfinished() == []
