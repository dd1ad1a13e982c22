from __future__ import annotations

import itertools
import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from harness.record import TrialResult
from harness.specs import Choices, Dimension, Parameters, Range, Search, TrialSpec
from harness.study import Study
from tests.harness.small_table import made_result

SPACE: dict[str, Dimension] = {
    "learning_rate": Range(low=1e-3, high=1.0, log=True),
    "size": Range(low=1, high=8),
    "kind": Choices(choices=("a", "b", None)),
}
CHOICES: dict[str, Dimension] = {"learning_rate": Choices(choices=(0.1, 0.01)), "size": Choices(choices=(2, 4, 8))}


def spec_of(parameters: Parameters) -> TrialSpec:
    return TrialSpec(
        task="next_item",
        dataset="d",
        dataset_hash="h",
        method="m",
        parameters=parameters,
        versions={},
        seed=2024,
        threads=1,
        purpose="search",
    )


def study_of(space: dict[str, Dimension] = SPACE, first: Parameters | None = None, **settings: Any) -> Study:
    return Study(
        key="key",
        space=space,
        settings=Search(**{"trials": 14} | settings),
        metric="validation/recall@5",
        first=first or {},
        make_spec=spec_of,
    )


def failed(spec: TrialSpec) -> TrialResult:
    return TrialResult(id=spec.id, spec=spec, status="failed", error="why")


def finish(
    study: Study,
    result_of: Callable[[TrialSpec], TrialResult] = made_result,
    *,
    shuffle_seed: int | None = None,
    at_most: int = 1000,
) -> list[Parameters]:
    """Run a study, the results of a round in stored or shuffled order; return all that it asked for."""
    order, told = random.Random(shuffle_seed), 0
    while not study.finished and told < at_most:
        pending = study.pending()
        if shuffle_seed is not None:
            order.shuffle(pending)
        for spec in pending[: at_most - told]:
            study.tell(result_of(spec))
            told += 1
    return [asked.parameters for asked in study.asked]


def test_a_study_asks_for_its_budget_within_its_space() -> None:
    asked = finish(study_of(trials=20))
    assert len(asked) == 20
    for parameters in asked:
        assert set(parameters) == set(SPACE)
        rate, size = parameters["learning_rate"], parameters["size"]
        assert isinstance(rate, float)
        assert 1e-3 <= rate <= 1.0
        assert type(size) is int
        assert 1 <= size <= 8
        assert parameters["kind"] in ("a", "b", None)


@pytest.mark.parametrize("parallel", [1, 4])
def test_a_rebuilt_study_goes_on_as_if_nothing_had_happened(parallel: int) -> None:
    whole = finish(study_of(parallel=parallel))
    for told in range(0, 14, 3):
        interrupted = study_of(parallel=parallel)
        finish(interrupted, at_most=told)
        known = {asked.spec.id: made_result(asked.spec) for asked in interrupted.asked if asked.told}
        rebuilt = study_of(parallel=parallel)
        while not rebuilt.finished:
            for spec in rebuilt.pending():
                rebuilt.tell(known.get(spec.id) or made_result(spec))
        assert [asked.parameters for asked in rebuilt.asked] == whole


@pytest.mark.parametrize("parallel", [1, 4])
def test_the_order_within_a_round_does_not_matter(parallel: int) -> None:
    whole = finish(study_of(parallel=parallel))
    assert all(finish(study_of(parallel=parallel), shuffle_seed=seed) == whole for seed in range(3))


CODE = """
import json
from tests.harness.test_study import finish, study_of
print(json.dumps([finish(study_of(parallel=parallel)) for parallel in (1, 4)]))
"""


def test_another_process_asks_for_the_same() -> None:
    environment = os.environ | {"PYTHONHASHSEED": "17", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    printed = subprocess.run([sys.executable, "-c", CODE], env=environment, capture_output=True, check=True).stdout
    assert json.loads(printed) == [finish(study_of(parallel=parallel)) for parallel in (1, 4)]


def test_a_larger_budget_goes_on_from_a_smaller_one() -> None:
    assert finish(study_of(trials=14))[:5] == finish(study_of(trials=5))


def test_other_seeds_and_other_keys_ask_for_others() -> None:
    other_key = study_of()
    other_key.key = "another key"
    asked = [finish(study_of()), finish(study_of(seed=7)), finish(other_key)]
    for one, other in itertools.combinations(asked, 2):
        assert all(parameters not in other for parameters in one)


def test_what_a_study_was_told_guides_it() -> None:
    """After the first random ten, it stays nearer to the best than chance would."""

    def quality(asked: list[Parameters]) -> float:
        return sum(made_result(spec_of(parameters)).metrics["validation/recall@5"] for parameters in asked)

    asked = finish(study_of(trials=30))
    assert quality(asked[20:]) > quality(asked[:10]) + 0.1
    assert finish(study_of(trials=30), failed)[20:] != asked[20:]


def test_a_round_is_as_wide_as_asked() -> None:
    study = study_of(trials=10, parallel=4)
    widths = []
    while not study.finished:
        widths.append(len(study.pending()))
        assert study.pending() == study.pending()
        for spec in study.pending():
            study.tell(made_result(spec))
    assert widths == [4, 4, 2]


@pytest.mark.parametrize("parallel", [1, 4, 100])
def test_a_space_of_few_choices_is_enumerated(parallel: int) -> None:
    study = study_of(CHOICES, first={"learning_rate": 0.01, "size": 4}, trials=20, parallel=parallel)
    assert study.budget == 6
    asked = finish(study)
    assert asked[0] == {"learning_rate": 0.01, "size": 4}
    assert sorted(asked, key=repr) == sorted(
        ({"learning_rate": rate, "size": size} for rate, size in itertools.product((0.1, 0.01), (2, 4, 8))), key=repr
    )
    assert study.distinct == 6


@pytest.mark.parametrize(("trials", "budget"), [(5, 5), (6, 6), (7, 6)])
def test_the_budget_is_what_the_space_has(trials: int, budget: int) -> None:
    study = study_of(CHOICES, trials=trials)
    finish(study)
    assert len(study.asked) == study.budget == budget


def test_nothing_to_search_is_one_point() -> None:
    assert finish(study_of({})) == [{}]


def test_the_published_point_is_tried_first() -> None:
    first: Parameters = {"learning_rate": 0.05, "size": 3, "kind": None}
    assert finish(study_of(first=first))[0] == first
    assert finish(study_of(CHOICES, first={"learning_rate": 0.1, "size": 8}, trials=3))[0]["size"] == 8
    assert finish(study_of(first=first, parallel=4))[0] == first


@pytest.mark.parametrize(
    "first",
    [
        {"learning_rate": 0.05, "size": 3},
        {"learning_rate": 2.0, "size": 3, "kind": "a"},
        {"learning_rate": 0.05, "size": 9, "kind": "a"},
        {"learning_rate": 0.05, "size": 3.5, "kind": "a"},
        {"learning_rate": 0.05, "size": True, "kind": "a"},
        {"learning_rate": "0.05", "size": 3, "kind": "a"},
        {"learning_rate": 0.05, "size": 3, "kind": "c"},
    ],
)
def test_a_published_point_outside_the_space_is_left_out(first: Parameters) -> None:
    assert finish(study_of(first=first)) == finish(study_of())


def test_the_best_is_the_highest_and_the_earliest_of_equals() -> None:
    values = [0.2, 0.5, 0.1, 0.5, 0.4]

    def valued(values: list[float]) -> Study:
        study, left = study_of(trials=5), iter(values)
        finish(study, lambda spec: made_result(spec).model_copy(update={"metrics": {study.metric: next(left)}}))
        return study

    study = valued(values)
    assert study.best is study.asked[1]
    assert (study := valued([-0.2, -0.5, -0.1, -0.1, -0.4])).best is study.asked[2]
    assert (study := valued([0.0, -0.5, 0.0, 0.0, -0.4])).best is study.asked[0]


def test_failed_trials_count_but_are_never_the_best() -> None:
    seeds = itertools.count()
    study = study_of(trials=12)
    asked = finish(study, lambda spec: failed(spec) if next(seeds) % 2 == 0 else made_result(spec))
    assert len(asked) == 12
    assert [entry.value is None for entry in study.asked] == [True, False] * 6
    assert study.failed == 6
    study.asked[0].told = False
    assert study.failed == 5, "what has not ended has not failed"
    assert study.best is not None
    assert study.best.value == max(entry.value for entry in study.asked if entry.value is not None)


def test_a_study_of_which_all_trials_fail_has_no_best() -> None:
    study = study_of(trials=12)
    assert study.best is None
    finish(study, failed)
    assert study.finished
    assert study.best is None


def test_a_result_without_the_metric_counts_as_failed() -> None:
    study = study_of(trials=2)
    finish(study, lambda spec: made_result(spec).model_copy(update={"metrics": {"test/recall@5": 1.0}}))
    assert study.finished
    assert study.best is None


def test_a_point_that_comes_up_again_is_one_trial() -> None:
    study = study_of({"size": Range(low=1, high=2)}, trials=12, parallel=3)
    ran: set[str] = set()
    while not study.finished:
        for spec in study.pending():
            ran.add(spec.id)
            study.tell(made_result(spec))
    assert len(study.asked) == 12
    assert study.distinct == len(ran) == 2


def test_results_of_other_trials_change_nothing() -> None:
    study = study_of()
    pending = study.pending()
    study.tell(made_result(spec_of({"learning_rate": 0.123456})))
    assert study.pending() == pending


def test_proposals_keep_their_types_in_a_trial() -> None:
    finish(study := study_of(trials=5))
    for asked in study.asked:
        back = TrialSpec.model_validate_json(asked.spec.model_dump_json()).parameters
        assert [(name, type(value), value) for name, value in back.items()] == [
            (name, type(value), value) for name, value in asked.parameters.items()
        ]
