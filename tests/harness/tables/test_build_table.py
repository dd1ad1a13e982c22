import math
from dataclasses import replace

import numpy as np
import pytest
from table_example import (
    BASE,
    SHIFT,
    cold_start_published,
    cold_start_spec,
    cold_start_table,
    cold_start_trials,
    next_item_spec,
    next_item_trials,
    trial,
)

from harness.statistics import relative_improvement, user_standard_error
from harness.table_specs import TableSpec
from harness.tables import PublishedCell, build_table
from harness.tables.values import tolerance_of


def test_a_cell_holds_published_and_measured():
    cell = cold_start_table().cell("ml-1m", "DeepFM", "cold/auc")
    measurement = cell.measured["tuned"]
    assert cell.published == PublishedCell(0.7013)
    assert (measurement.summary.n, measurement.summary.failed) == (10, 0)
    assert measurement.summary.mean == pytest.approx(0.7)
    assert measurement.sampling_error == pytest.approx(0.002)
    assert measurement.agreement.verdict == "reproduced"
    assert measurement.agreement.difference == pytest.approx(-0.0013)


def test_a_failed_seed_is_counted_and_in_no_figure():
    measurement = cold_start_table().cell("ml-1m", "Ours(DeepFM)", "cold/auc").measured["tuned"]
    assert (measurement.summary.n, measurement.summary.failed) == (9, 1)
    assert sorted(measurement.values) == list(range(9))


def test_relaimpr_is_taken_seed_by_seed():
    table = cold_start_table()
    ours = table.cell("ml-1m", "Ours(DeepFM)", "cold/relaimpr").measured["tuned"]
    auc = {r: table.cell("ml-1m", r, "cold/auc").measured["tuned"].values for r in ("DeepFM", "Ours(DeepFM)")}
    expected = [relative_improvement(auc["Ours(DeepFM)"][seed], auc["DeepFM"][seed]) for seed in range(9)]
    assert ours.summary.mean == pytest.approx(np.mean(expected))
    assert ours.agreement is None
    assert set(table.cell("ml-1m", "DeepFM", "cold/relaimpr").measured["tuned"].values.values()) == {0.0}


def test_relaimpr_is_taken_under_the_same_parameters() -> None:
    """Published parameters are compared with the baseline's published ones, tuned with tuned."""
    aucs = {("DeepFM", "tuned"): 0.6, ("DeepFM", "published"): 0.7, ("Ours(DeepFM)", "published"): 0.75}
    trials = [trial(row, 0, auc, selection) for (row, selection), auc in aucs.items()]
    ours = build_table(cold_start_spec(), {}, trials).cell("ml-1m", "Ours(DeepFM)", "cold/relaimpr").measured
    assert ours["published"].values == {0: pytest.approx(25.0)}


def test_differences_are_paired_by_seed_against_the_reference():
    (comparison,) = cold_start_table().comparisons
    assert (comparison.row, comparison.reference, comparison.metric) == ("DeepFM", "Ours(DeepFM)", "cold/auc")
    assert (comparison.difference.pairs, comparison.difference.n) == ("seeds", 9)
    assert comparison.difference.mean == pytest.approx(-SHIFT - 0.0004)
    # One comparison in the column: nothing to adjust. Nine equal signs: 2 of 512 arrangements.
    assert comparison.holm == comparison.difference.p_value == 2 / 512


def test_holm_adjusts_within_a_column():
    extra = [trial("Other", seed, 0.6 + 0.001 * seed) for seed in range(10)]
    table = build_table(cold_start_spec(), {}, cold_start_trials() + extra)
    assert [c.row for c in table.comparisons] == ["DeepFM", "Other"]
    assert [c.holm for c in table.comparisons] == [2 * 2 / 512] * 2


def test_ranks_are_paired_by_user():
    table = build_table(next_item_spec(), {}, next_item_trials())
    recall, ndcg = table.comparisons
    # Users' means over seeds: A (1, 0.5, 0, 0.5), B (0, 0.5, 0, 0).
    assert (recall.difference.pairs, recall.difference.n) == ("users", 4)
    assert recall.difference.mean == pytest.approx((1 + 0 + 0 + 0.5) / 4)
    a = np.array([1, 0.5, 0, 0.5 / math.log2(3)])
    b = np.array([0, 0.25, 0, 0])
    assert ndcg.difference.mean == pytest.approx((a - b).mean())
    measurement = table.cell("beauty", "A", "recall@5").measured["tuned"]
    assert measurement.sampling_error == pytest.approx(user_standard_error(np.array([[1, 0.5, 0, 0.5]])))


def test_rows_that_share_all_under_a_seed_are_paired_by_seed():
    spec = next_item_spec().model_copy(update={"pairs": "seeds"})
    by_user, by_seed = (build_table(one, {}, next_item_trials()).comparisons[0] for one in (next_item_spec(), spec))
    seeds = {trial.seed for trial in next_item_trials() if trial.row == "A"}
    assert (by_seed.difference.pairs, by_seed.difference.n) == ("seeds", len(seeds))
    assert by_seed.difference.mean == pytest.approx(by_user.difference.mean)


def test_ranks_of_other_users_fall_back_to_seeds():
    trials = [
        t if t.row == "A" else trial("B", t.seed, 0, dataset="beauty", metrics=t.metrics) for t in next_item_trials()
    ]
    assert {c.difference.pairs for c in build_table(next_item_spec(), {}, trials).comparisons} == {"seeds"}


@pytest.mark.parametrize("seeds", [(0,), (0, 1)], ids=["one seed of a row", "a row"])
def test_ranks_of_other_numbers_of_users_fall_back_to_seeds(seeds: tuple[int, ...]) -> None:
    trials = [
        replace(one, ranks=(1, 2, 3)) if one.row == "B" and one.seed in seeds else one for one in next_item_trials()
    ]
    comparisons = build_table(next_item_spec(), {}, trials).comparisons
    assert [(c.difference.pairs, c.difference.n) for c in comparisons] == [("seeds", 2)] * 2


def test_not_run_and_no_data():
    table = cold_start_table()
    assert table.verdict("ml-1m", "Other", "cold/auc", "tuned") == "not run"
    assert table.verdict("taobao", "DeepFM", "cold/auc", "tuned") == "no data"
    assert table.verdict("ml-1m", "DeepFM", "cold/auc", "tuned") == "reproduced"
    assert table.verdict("ml-1m", "DeepFM", "cold/relaimpr", "tuned") == ""


def test_a_pretrained_row_needs_the_data_that_it_is_pretrained_on() -> None:
    rows = [{"name": "Trained", "method": "a"}, {"name": "Zero-shot", "method": "a", "pretrained_on": "elsewhere"}]
    spec = next_item_spec().model_dump(by_alias=True, exclude_unset=True) | {"rows": rows, "reference": "Trained"}
    for at_hand, expected in (({"beauty"}, "no data"), ({"beauty", "elsewhere"}, "not run")):
        table = build_table(TableSpec.model_validate(spec), {}, [], at_hand)
        assert table.status == {("beauty", "Trained"): "not run", ("beauty", "Zero-shot"): expected}


def test_a_dataset_that_others_measured_has_data():
    table = build_table(cold_start_spec(), {}, cold_start_trials(), available_datasets=())
    assert table.status["ml-1m", "Other"] == "not run"


def test_a_cell_whose_seeds_all_failed_is_failed():
    trials = [trial("DeepFM", s, 0, status="failed", metrics={}, error="killed for memory") for s in range(10)]
    table = build_table(cold_start_spec(), cold_start_published(), trials)
    assert table.verdict("ml-1m", "DeepFM", "cold/auc", "tuned") == "failed"
    assert table.cell("ml-1m", "DeepFM", "cold/auc").measured["tuned"].summary.failed == 10


def test_best_and_second_best_among_published_and_measured_apart():
    table = cold_start_table()
    assert [table.cell("ml-1m", row.name, "cold/auc").published_place for row in table.spec.rows] == [
        "",
        "second",
        "best",
    ]
    assert table.cell("ml-1m", "Ours(DeepFM)", "cold/auc").measured["tuned"].place == "best"
    assert table.cell("ml-1m", "DeepFM", "cold/auc").measured["tuned"].place == "second"


def test_two_best_leave_no_second():
    published = {("ml-1m", row, "cold/auc"): PublishedCell(0.7) for row in ("DeepFM", "Other")}
    published["ml-1m", "Ours(DeepFM)", "cold/auc"] = PublishedCell(0.6)
    table = build_table(cold_start_spec(), published, [])
    assert [table.cell("ml-1m", row.name, "cold/auc").published_place for row in table.spec.rows] == [
        "best",
        "best",
        "",
    ]


def test_a_single_value_is_not_called_best():
    table = build_table(cold_start_spec(), {}, [trial("DeepFM", 0, 0.7)])
    assert table.cell("ml-1m", "DeepFM", "cold/auc").measured["tuned"].place == ""


@pytest.mark.parametrize("metric", ["cold/log_loss", "ece", "train/batch_ms", "training_s"])
def test_lower_losses_and_times_are_better(metric: str) -> None:
    trials = [trial(row, 0, 0, metrics={f"test/{metric}": x}) for row, x in (("DeepFM", 0.5), ("Other", 0.4))]
    table = build_table(cold_start_spec(metrics=[metric]), {}, trials)
    assert table.cell("ml-1m", "Other", metric).measured["tuned"].place == "best"


@pytest.mark.parametrize("metric", ["training_rows", "optimum_auc"])
def test_what_is_the_datas_is_neither_placed_nor_compared(metric: str) -> None:
    rows = (("DeepFM", 0.8), ("Ours(DeepFM)", 0.9))
    trials = [trial(row, seed, 0, metrics={f"test/{metric}": x}) for row, x in rows for seed in range(3)]
    table = build_table(cold_start_spec(metrics=[metric]), {}, trials)
    assert table.cell("ml-1m", "Ours(DeepFM)", metric).measured["tuned"].place == ""
    assert table.comparisons == ()


def test_published_and_tuned_parameters_stay_apart():
    trials = cold_start_trials() + [trial("DeepFM", seed, 0.65, "published") for seed in range(3)]
    measured = build_table(cold_start_spec(), {}, trials).cell("ml-1m", "DeepFM", "cold/auc").measured
    assert {selection: m.summary.n for selection, m in measured.items()} == {"published": 3, "tuned": 10}


def test_what_the_table_does_not_ask_for_is_left_out():
    strangers = [trial("DeepFM", 77, 0.1), trial("Gone", 0, 0.1), trial("DeepFM", 0, 0.1, dataset="ml-100k")]
    table = build_table(cold_start_spec(), cold_start_published(), cold_start_trials() + strangers, {"ml-1m"})
    assert table == cold_start_table()


def test_the_order_of_trials_is_of_no_account():
    table = build_table(cold_start_spec(), cold_start_published(), cold_start_trials()[::-1], {"ml-1m"})
    assert table == cold_start_table()


@pytest.mark.parametrize(
    ("tolerance", "metric", "expected"),
    [
        ({}, "cold/auc", 0.006),
        ({}, "recall@5", 0.004),
        ({}, "cold/relaimpr", None),
        ({"auc": 0.001}, "cold/auc", 0.001),
        ({"auc": 0.001, "cold/auc": 0.01}, "cold/auc", 0.01),
        ({"recall": "5%"}, "recall@10", 0.002),
        ({"recall@10": 0.5, "recall": "5%"}, "recall@10", 0.5),
    ],
)
def test_tolerance(tolerance, metric, expected):
    result = tolerance_of(cold_start_spec(tolerance=tolerance, metrics=[metric]), metric, 0.04)
    assert result == (None if expected is None else pytest.approx(expected))


def test_generated_data_stands_beside_no_published_number():
    generated = [
        trial(row, seed, BASE + seed / 100, dataset="taobao", data_note="synthetic: 1,000 generated rows, seed 0")
        for row in ("DeepFM", "Ours(DeepFM)")
        for seed in range(3)
    ]
    table = build_table(cold_start_spec(), cold_start_published(), [*cold_start_trials(), *generated])
    of_generated = [cell for (dataset, _, _), cell in table.cells.items() if dataset == "taobao"]
    assert all(cell.published is None and cell.published_place == "" for cell in of_generated)
    assert table.cell("taobao", "DeepFM", "cold/auc").measured["tuned"].summary.n == 3
    assert table.verdict("taobao", "DeepFM", "cold/auc", "tuned") == ""
    assert {claim.dataset for claim in table.order} <= {"ml-1m"}
    assert table.provenance["taobao", "DeepFM"][0].data_notes == ("synthetic: 1,000 generated rows, seed 0",)
    assert table.cell("ml-1m", "DeepFM", "cold/auc").published is not None
