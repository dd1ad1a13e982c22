import itertools
import math
from pathlib import Path

import pytest

from harness.specs import find_table
from harness.statistics import relative_improvement
from harness.tables import build_table, read_published, to_markdown

RESULTS = Path(__file__).parents[3] / "results"
TABLES = ["csdm/table1", "csdm/table2", "csdm/table4", "preferdiff/table1"]


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
    ],
)
def test_every_printed_cell_is_there(name, cells):
    spec, published = table(name)
    assert len(published) == cells
    printed = printed_rows(spec, published)
    assert set(published) == {(d, row, m) for d in spec.datasets for row in printed for m in spec.metrics}


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


def test_every_impossible_ndcg_is_flagged():
    # With one target a user, a hit at rank 6…10 adds 1 to Recall@10 and between 1/log2(11) and 1/log2(7) to NDCG@10.
    spec, published = table("preferdiff/table1")
    rounding = 1e-4
    for dataset in spec.datasets:
        for row in printed_rows(spec, published):
            r5, n5, r10, n10 = (published[dataset, row, metric].value for metric in spec.metrics)
            assert r5 / math.log2(6) - rounding <= n5 <= r5
            low = (r10 - r5 - rounding) / math.log2(11) - rounding
            high = (r10 - r5 + rounding) / math.log2(7) + rounding
            impossible = not low - 1e-9 <= n10 - n5 <= high + 1e-9
            assert impossible == bool(published[dataset, row, "ndcg@10"].flag), (dataset, row)


@pytest.mark.parametrize("name", TABLES)
def test_an_unmeasured_table_renders(name):
    spec, published = table(name)
    text = to_markdown(build_table(spec, published, []))
    printed = printed_rows(spec, published) if name.startswith("csdm") else spec.rows
    assert text.count("paper (no data)") == len(spec.datasets) * len(printed)


def test_every_cell_that_differs_from_another_table_of_the_same_method_is_flagged():
    first, second = table("csdm/table1")[1], table("csdm/table2")[1]
    for (dataset, row, metric), cell in second.items():
        if row == "CSDM with dropout":
            assert bool(cell.flag) == (cell.value != first[dataset, "CSDM(DeepFM)", metric].value), (dataset, metric)
