"""What the searcher hands to Ray Tune again: trials whose process died, in whatever state Tune believed them to be."""

from __future__ import annotations

from pathlib import Path

from ray.tune.search import Searcher

from harness.cluster import Capacity, Slots
from harness.specs import TrialSpec
from harness.tune_search import KILLED, TRIES, ScheduleSearcher
from tests.harness.small_table import made_result, small_next_item

LAST = {"name": "Last", "method": "last_item", "parameters": {"size": 2, "learning_rate": 0.1}}


def test_a_trial_whose_process_died_is_begun_again_and_in_the_end_recorded(tmp_path: Path) -> None:
    small = small_next_item(tmp_path, rows=[LAST], seeds=[0])
    schedule = small.schedule()
    searcher = ScheduleSearcher(schedule, small.places, Slots(2, 1), Capacity(2, 0, 2, 0))
    handed = []
    for number in range(TRIES):
        handed.append(TrialSpec.model_validate_json(searcher.suggest(str(number))["spec"]))
        assert searcher.suggest("other") is None, "nothing else is ready, and this one may come back"
        searcher.on_trial_complete(str(number), error=True)
    assert handed == [handed[0]] * TRIES
    assert searcher.suggest("after") == Searcher.FINISHED
    assert [(result.status, result.error) for _, result in schedule.finished.values()] == [("failed", KILLED)]


def test_a_trial_that_ended_before_its_process_died_is_not_begun_again(tmp_path: Path) -> None:
    small = small_next_item(tmp_path, rows=[LAST], seeds=[0])
    schedule = small.schedule()
    searcher = ScheduleSearcher(schedule, small.places, Slots(2, 1), Capacity(2, 0, 2, 0))
    small.store.write(made_result(TrialSpec.model_validate_json(searcher.suggest("first")["spec"])), {})
    searcher.on_trial_complete("first", error=True)
    assert searcher.suggest("after") == Searcher.FINISHED
    assert [result.status for _, result in schedule.finished.values()] == ["finished"]
