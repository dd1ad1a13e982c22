import itertools
import math
from pathlib import Path

import pytest

from harness.statistics import relative_improvement
from harness.table_specs import find_table
from harness.tables import build_table, read_published, to_markdown

RESULTS = Path(__file__).parents[3] / "results"
TABLES = ["csdm/table1", "csdm/table2", "csdm/table4"]
PREFERDIFF = sorted(f"preferdiff/{path.parent.name}" for path in RESULTS.glob("preferdiff/*/published.csv"))
RANKED = [f"preferdiff/table{n}" for n in (1, 2, 3, 4, 6, 8, 9, 13, 14, 15, 16, 17, 19, 20)]
COUNTED = ["preferdiff/table5", "preferdiff/table7", "preferdiff/table10"]
SAME = {
    "preferdiff/table2": {"PreferDiff": (1, "PreferDiff"), "w/o-C&N": (1, "DreamRec")},
    "preferdiff/table4": {"Cosine": (1, "PreferDiff"), "L2": (2, "w/o-C")},
    "preferdiff/table6": {"GRU4Rec": (1, "GRU4Rec"), "SASRec": (1, "SASRec")},
    "preferdiff/table13": {"OpenAI-3-large": (1, "PreferDiff-T")},
    "preferdiff/table14": {"SASRec": (3, "SASRec")},
    "preferdiff/table15": {row: (14, row) for row in ("SASRec", "BERT4Rec", "TIGER", "DreamRec", "PreferDiff")},
    "preferdiff/table16": {row: (14, row) for row in ("SASRec", "BERT4Rec", "TIGER", "DreamRec", "PreferDiff")},
    "preferdiff/table17": {"Standard Normal": (1, "PreferDiff")},
    "preferdiff/table19": {
        **{row: (1, row) for row in ("SASRec", "BERT4Rec", "TIGER", "DreamRec")},
        "PreferDiff with 20 steps": (1, "PreferDiff"),
    },
    "preferdiff/table20": {"PreferDiff": (1, "PreferDiff")},
}
"""Rows that print what another table prints: its number and its row."""


def table(name):
    spec, folder = find_table(name, RESULTS)
    return spec, read_published(folder / "published.csv", spec)


def printed_rows(spec, published):
    """Return the names of the paper's own rows; a table may add rows of ours."""
    return [row.name for row in spec.rows if any(key[1] == row.name for key in published)]


@pytest.mark.parametrize(
    ("name", "cells"),
    [
        ("csdm/table1", 3 * 7 * 8),
        ("csdm/table2", 3 * 2 * 4),
        ("csdm/table3", 3 * 3),
        ("csdm/table4", 3 * 2 * 4),
        ("preferdiff/table1", 3 * 12 * 4),
        ("preferdiff/table2", 3 * 4 * 4),
        ("preferdiff/table3", 5 * 4 * 2),
        ("preferdiff/table4", 3 * 4 * 2),
        ("preferdiff/table5", 10 * 3),
        ("preferdiff/table6", 3 * 4 * 4),
        ("preferdiff/table7", 6 * 4),
        ("preferdiff/table8", 3 * 11 * 4),
        ("preferdiff/table9", 3 * 3 * 4),
        ("preferdiff/table10", 5 * 4),
        ("preferdiff/table13", 3 * 7 * 4),
        ("preferdiff/table14", 3 * 6 * 2),
        ("preferdiff/table15", 5 * 5 * 2),
        ("preferdiff/table16", 5 * 5 * 2),
        ("preferdiff/table17", 3 * 6 * 2),
        ("preferdiff/table18", 3 * 5 * 3),
        ("preferdiff/table19", 3 * 8 * 3),
        ("preferdiff/table20", 3 * 7 * 2),
        ("preferdiff/figure2", 2 * 2),
    ],
)
def test_every_printed_cell_is_there(name, cells):
    _, published = table(name)
    assert len(published) == cells
    datasets, rows, metrics = ({key[part] for key in published} for part in range(3))
    assert set(published) == {(d, row, m) for d in datasets for row in rows for m in metrics}


@pytest.mark.parametrize(
    ("name", "key", "expected"),
    [
        ("csdm/table1", ("ml-1m", "DeepFM", "cold/auc"), 0.7313),
        ("csdm/table1", ("ml-1m", "CSDM(DeepFM)", "warm_c/auc"), 0.8089),
        ("csdm/table1", ("taobao", "CSDM(DeepFM)", "warm_a/relaimpr"), 18.45),
        ("csdm/table1", ("cikm", "VELF(DeepFM)", "warm_c/relaimpr"), -13.25),
        ("csdm/table2", ("taobao", "CSDM without dropout", "cold/auc"), 0.5859),
        ("csdm/table2", ("ml-1m", "CSDM with dropout", "warm_c/auc"), 0.8091),
        ("csdm/table4", ("cikm", "CSDM without dropout", "warm_a/auc"), 0.7541),
        ("csdm/table3", ("cikm", "counted", "rows"), 62_428_486),
        ("preferdiff/table1", ("amazon-beauty", "SASRec", "recall@5"), 0.0138),
        ("preferdiff/table1", ("amazon-beauty", "SASRec", "ndcg@10"), 0.0116),
        ("preferdiff/table1", ("amazon-sports", "GRU4Rec", "recall@5"), 0.0022),
        ("preferdiff/table1", ("amazon-toys", "PreferDiff-T", "ndcg@10"), 0.0380),
        ("preferdiff/table2", ("amazon-beauty", "w/o-C", "recall@10"), 0.0496),
        ("preferdiff/table3", ("steam", "MoRec", "ndcg@5"), 0.0556),
        ("preferdiff/table3", ("amazon-2018-movies", "SASRec", "recall@5"), 0.1392),
        ("preferdiff/table4", ("amazon-toys", "Huber", "ndcg@5"), 0.0286),
        ("preferdiff/table5", ("yahoo-r1", "counted", "items"), 23_589),
        ("preferdiff/table6", ("amazon-toys", "DreamRec", "recall@10"), 0.0591),
        ("preferdiff/table7", ("amazon-office-leave-one-out", "counted", "interactions"), 53_258),
        ("preferdiff/table8", ("amazon-toys-leave-one-out", "S³-Rec", "recall@10"), 0.0700),
        ("preferdiff/table8", ("amazon-beauty-leave-one-out", "HGN", "ndcg@10"), 0.0257),
        ("preferdiff/table9", ("amazon-instruments-leave-one-out", "TIGER", "recall@10"), 0.0840),
        ("preferdiff/table10", ("amazon-2018-tools", "counted", "average_length"), 7.19),
        ("preferdiff/table13", ("amazon-beauty", "Robert", "recall@5"), 0.0331),
        ("preferdiff/table14", ("ml-1m-next-item", "TIGER", "ndcg@5"), 0.0272),
        ("preferdiff/table15", ("steam-history-40", "PreferDiff", "recall@5"), 0.0852),
        ("preferdiff/table16", ("ml-1m-next-item-history-50", "BERT4Rec", "ndcg@5"), 0.0119),
        ("preferdiff/table17", ("amazon-beauty", "Xavier_Normal", "recall@5"), 0.0067),
        ("preferdiff/table18", ("amazon-sports", "DreamRec", "inference_s"), 356.43),
        ("preferdiff/table19", ("amazon-toys", "PreferDiff with 4 steps", "recall@5"), 0.0433),
        ("preferdiff/table19", ("amazon-sports", "PreferDiff with 20 steps", "inference_s"), 3),
        ("preferdiff/table20", ("amazon-beauty", "DreamRec + Diffusion-DPO (β = 5)", "recall@5"), 0.0321),
    ],
)
def test_spot_checks_against_the_papers(name, key, expected):
    assert table(name)[1][key].value == expected


def test_every_relaimpr_that_does_not_follow_from_its_aucs_is_flagged():
    spec, published = table("csdm/table1")
    for (dataset, row, metric), cell in published.items():
        stage, kind = metric.split("/")
        if kind == "relaimpr":
            auc = published[dataset, row, f"{stage}/auc"].value
            base = published[dataset, spec.baselines[0], f"{stage}/auc"].value
            # Both AUCs are rounded by up to 0.00005, the printed percentage by up to 0.005.
            slack = 5e-5 * (1 + (auc - 0.5) / (base - 0.5)) / (base - 5e-5 - 0.5) * 100 + 0.005
            off = abs(cell.value - relative_improvement(auc, base)) > slack
            assert off == bool(cell.flag), (dataset, row, metric)


def test_every_auc_that_falls_from_one_stage_to_the_next_by_the_rules_is_flagged():
    spec, published = table("csdm/table1")
    stages = ["cold", "warm_a", "warm_b", "warm_c"]
    for dataset in spec.datasets:
        for row in printed_rows(spec, published):
            values = [published[dataset, row, f"{stage}/auc"] for stage in stages]
            falls = [after.value < before.value for before, after in itertools.pairwise(values)]
            assert [bool(cell.flag) for cell in values] == [False, *falls], (dataset, row)


def impossible(published, dataset, row, metric):
    """Tell whether a printed NDCG cannot stand beside its Recall: with one target a user, a hit adds 1 to Recall and
    to NDCG 1 at rank 1, 1/log2(6) at rank 5, 1/log2(7) at rank 6, 1/log2(11) at rank 10."""
    rounding = 1e-4
    r5, n5 = (published[dataset, row, name].value for name in ("recall@5", "ndcg@5"))
    if metric == "ndcg@5":
        return n5 > r5 or n5 < r5 / math.log2(6) - rounding
    if metric == "ndcg@10":
        r10, n10 = (published[dataset, row, name].value for name in ("recall@10", "ndcg@10"))
        low = (r10 - r5 - rounding) / math.log2(11) - rounding
        high = (r10 - r5 + rounding) / math.log2(7) + rounding
        return not low - 1e-9 <= n10 - n5 <= high + 1e-9
    return metric == "recall@10" and published[dataset, row, metric].value < r5


@pytest.mark.parametrize("name", RANKED)
def test_every_impossible_or_contradicted_cell_is_flagged(name):
    _, published = table(name)
    of_ranks = {key: cell for key, cell in published.items() if key[2] != "inference_s"}
    for (dataset, row, metric), cell in of_ranks.items():
        odd = impossible(published, dataset, row, metric)
        number, other = SAME.get(name, {}).get(row, (0, ""))
        if number:
            first = table(f"preferdiff/table{number}")[1].get((dataset, other, metric))
            odd = odd or (first is not None and first.value != cell.value)
        assert odd == bool(cell.flag), (dataset, row, metric)


def test_seconds_that_are_no_average_of_another_table_s_are_flagged():
    """Table 19 prints one time for all datasets, which says so at each, Table 18 one a dataset."""
    (spec, published), (_, single) = table("preferdiff/table19"), table("preferdiff/table18")
    same = {**{row: row for row in SAME["preferdiff/table19"]}, "PreferDiff with 20 steps": "PreferDiff"}
    for row in printed_rows(spec, published):
        cells = [published[dataset, row, "inference_s"] for dataset in spec.datasets]
        assert len(set(cells)) == 1
        assert cells[0].flag.startswith("one time in seconds for all datasets, on one Tesla V100 GPU")
        times = [single[dataset, same[row], "inference_s"].value for dataset in spec.datasets if row in same]
        average = sum(times) / len(times) if times else cells[0].value
        off = abs(cells[0].value - average) > 0.01  # both tables round by up to 0.005
        assert cells[0].flag.endswith(f"; Table 18's have the average {average:.2f}") == off, row


@pytest.mark.parametrize("name", COUNTED)
def test_counts_that_do_not_fit_each_other_are_flagged(name):
    spec, published = table(name)
    for dataset in spec.datasets:
        users, interactions = (published[dataset, "counted", metric] for metric in ("users", "interactions"))
        length = interactions.value / users.value
        # D.1: sequences shorter than 5 are filtered.
        assert bool(interactions.flag) == (length < 5)
        if "average_length" in spec.metrics:
            printed = published[dataset, "counted", "average_length"]
            assert bool(printed.flag) == (abs(printed.value - length) > 0.005 + 1e-9)


def test_the_pretraining_column_is_the_sum_of_its_domains():
    mixed, (spec, domains) = table("preferdiff/table5")[1], table("preferdiff/table10")
    for metric in ("users", "items", "interactions"):
        total = sum(domains[dataset, "counted", metric].value for dataset in spec.datasets)
        assert mixed["amazon-2018-pretraining", "counted", metric].value == total


@pytest.mark.parametrize("name", PREFERDIFF)
def test_an_unmeasured_table_of_preferdiff_renders(name):
    spec, published = table(name)
    text = to_markdown(build_table(spec, published, []))
    rows = {(dataset, row.name) for dataset in spec.datasets for row in spec.rows if not row.beyond}
    assert text.count("paper (no data)") == len(rows)


@pytest.mark.parametrize("name", TABLES)
def test_an_unmeasured_table_renders(name):
    spec, published = table(name)
    text = to_markdown(build_table(spec, published, []))
    assert text.count("paper (no data)") == len(spec.datasets) * len(printed_rows(spec, published))


def test_every_cell_that_differs_from_another_table_of_the_same_method_is_flagged():
    first, second = table("csdm/table1")[1], table("csdm/table2")[1]
    for (dataset, row, metric), cell in second.items():
        if row == "CSDM with dropout":
            assert bool(cell.flag) == (cell.value != first[dataset, "CSDM(DeepFM)", metric].value), (dataset, metric)
