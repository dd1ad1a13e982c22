from dataclasses import replace

import pytest

from harness.measured import Measured
from harness.merging import merge_run

SEEDS = (0, 1, 2)


def trial(row="SASRec", seed=0, **changes):
    values = {
        "dataset": "amazon-beauty",
        "selection": "tuned",
        "trial_id": f"{row}-{seed}",
        "status": "finished",
        "parameters": '{"learning_rate": 0.001}',
        "data_hash": "cfd5b4f14ea9" + "0" * 52,
    }
    return Measured(row=row, seed=seed, **(values | changes))


OLD = [trial(row, seed) for row in ("GRU4Rec", "SASRec") for seed in SEEDS]


def test_missing_seeds_join_the_kept_ones():
    merged = merge_run(OLD[:4], OLD[4:], SEEDS)
    assert merged.kept == merged.shown == OLD
    assert merged.notes == []


def test_a_row_begins_with_any_seeds() -> None:
    merged = merge_run([], OLD[:2], SEEDS)
    assert merged.kept == merged.shown == OLD[:2]
    assert merge_run(OLD[:3], OLD[3:5], SEEDS).kept == OLD[:5]


def test_published_and_tuned_parameters_are_rows_of_their_own() -> None:
    """Neither is measured against the other, nor taken from sight where the other is shown anew."""
    published = [replace(record, selection="published", parameters="{}") for record in OLD[3:]]
    begun = merge_run(OLD, published[:1], SEEDS)
    assert begun.kept == begun.shown == [*OLD[:3], published[0], *OLD[3:]]
    other = replace(OLD[4], parameters='{"learning_rate": 1}')
    merged = merge_run([*OLD[:3], *published, *OLD[3:]], [other], SEEDS)
    assert merged.kept == [*OLD[:3], *published, *OLD[3:]]
    assert merged.shown == [*OLD[:3], *published, other]


def test_a_seed_does_not_join_seeds_that_differ_already() -> None:
    mixed = [replace(OLD[3], setup="version 1"), replace(OLD[4], setup="version 2")]
    merged = merge_run(mixed, [replace(OLD[5], setup="version 2")], SEEDS)
    assert merged.kept == mixed
    assert len(merged.notes) == 1


def test_equal_parameters_on_equal_data_replace_a_trial_alone():
    again = trial(seed=1, code_hash="new")
    merged = merge_run(OLD, [again], SEEDS)
    assert merged.kept == merged.shown == [*OLD[:4], again, OLD[5]]


def test_other_parameters_need_every_seed():
    other = [trial(seed=seed, parameters='{"learning_rate": 0.01}') for seed in SEEDS]
    part = merge_run(OLD, other[:2], SEEDS)
    assert part.kept == OLD
    assert part.shown == [*OLD[:3], *other[:2]]
    assert part.notes == [
        "amazon-beauty, SASRec (tuned): measured before with other parameters: shown below, not kept; run all seeds to "
        "replace it"
    ]
    whole = merge_run(OLD, other, SEEDS)
    assert whole.kept == whole.shown == [*OLD[:3], *other]
    assert whole.notes == []


def test_another_version_needs_every_seed():
    before = [replace(record, setup="version 1") for record in OLD]
    after = [replace(record, setup="version 2") for record in before[3:]]
    part = merge_run(before, after[:1], SEEDS)
    assert part.kept == before
    assert part.shown == [*before[:3], after[0]]
    assert part.notes == [
        "amazon-beauty, SASRec (tuned): measured before with other versions or settings: shown below, not kept; run "
        "all seeds to replace it"
    ]
    assert merge_run(before, after, SEEDS).kept == [*before[:3], *after]


def test_trials_from_before_setups_were_kept_go_by_their_parameters():
    again = replace(OLD[3], setup="version 1")
    assert merge_run(OLD, [again], SEEDS).kept == [*OLD[:3], again, *OLD[4:]]
    assert merge_run(OLD[:4], [replace(OLD[4], setup="version 1")], SEEDS).kept[:4] == OLD[:4]
    other = replace(again, setup="version 2", trial_id="of version 2")
    assert merge_run(OLD, [other], SEEDS).kept == OLD, "the same seed, but not the same trial"


def test_a_failure_elsewhere_erases_no_finished_trial():
    failed = replace(OLD[3], status="failed", error="killed")
    assert merge_run(OLD, [failed], SEEDS).kept == OLD
    assert merge_run([failed], OLD, SEEDS).kept == OLD
    other = [replace(record, trial_id="of another version") for record in (failed, *OLD[4:])]
    assert merge_run(OLD, other, SEEDS).kept == [*OLD[:3], *other]


@pytest.mark.parametrize(("failures", "kept"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_row_of_another_version_that_failed_replaces_no_finished_one(failures: int, kept: bool) -> None:
    before = [replace(record, setup="version 1") for record in OLD]
    after = [replace(record, setup="version 2", trial_id=f"new-{record.seed}") for record in before[3:]]
    after[:failures] = [replace(record, status="failed", error="killed") for record in after[:failures]]
    merged = merge_run(before, after, SEEDS)
    assert merged.kept == (before if kept else [*before[:3], *after])
    assert merged.shown == [*before[:3], *after]
    assert merged.notes == kept * [
        "amazon-beauty, SASRec (tuned): measured before with other versions or settings: shown below, not kept; "
        f"{failures} of 3 seeds failed, run them again with --retry-failed to replace it"
    ]


def test_failed_trials_give_way_to_those_of_another_version() -> None:
    before = [replace(record, setup="version 1", status="failed") for record in OLD]
    for status in ("finished", "failed"):
        after = [replace(record, setup="version 2", trial_id="new", status=status) for record in before]
        assert merge_run(before, after, SEEDS).kept == after


def test_seeds_that_the_table_has_no_more_are_no_hindrance():
    stray = trial(seed=7, parameters="{}")
    again = trial(seed=1, code_hash="new")
    assert merge_run([*OLD, stray], [again], SEEDS).kept == [*OLD[:4], again, OLD[5], stray]


def test_other_data_do_not_stand_beside_the_kept_ones():
    # All seeds of a row are not enough: its differences are taken to rows on the old data.
    other = [trial(seed=seed, data_hash="0" * 64) for seed in SEEDS]
    merged = merge_run(OLD, other, SEEDS)
    assert merged.kept == OLD
    assert merged.shown == other
    assert merged.notes == [
        "amazon-beauty: data 000000000000, the table's folder has cfd5b4f14ea9: shown below, not kept; delete the "
        "folder's measured.parquet to begin it anew"
    ]


def test_other_data_take_over_when_they_cover_all_that_is_kept():
    other = [trial(row, seed, data_hash="0" * 64) for row in ("GRU4Rec", "SASRec") for seed in SEEDS]
    merged = merge_run(OLD, other, SEEDS)
    assert merged.kept == merged.shown == other


def test_other_data_do_not_take_over_when_a_row_failed_on_them() -> None:
    other = [trial(row, seed, data_hash="0" * 64) for row in ("GRU4Rec", "SASRec") for seed in SEEDS]
    other[3:] = [replace(record, trial_id="new", status="failed") for record in other[3:]]
    merged = merge_run(OLD, other, SEEDS)
    assert merged.kept == OLD
    assert merged.shown == other
    assert len(merged.notes) == 1


def test_other_data_take_over_a_row_of_few_seeds_with_the_others() -> None:
    before = [replace(record, setup="old data") for record in OLD[:4]]
    other = [replace(record, setup="new data", data_hash="0" * 64) for record in before]
    merged = merge_run(before, other, SEEDS)
    assert merged.kept == merged.shown == other


def test_other_datasets_are_kept_whatever_becomes_of_one():
    toys = [trial(seed=seed, dataset="amazon-toys") for seed in SEEDS]
    other = trial(data_hash="0" * 64)
    merged = merge_run(OLD, [other, *toys], SEEDS)
    assert merged.kept == [*OLD, *toys]
    assert merged.shown == [other, *toys]


def test_a_run_without_results_changes_nothing():
    merged = merge_run(OLD, [], SEEDS)
    assert merged.kept == merged.shown == OLD
