"""A small table with measurements whose statistics are easy to follow; shared by the tests of this folder."""

from harness.measured import Measured
from harness.table_specs import TableSpec
from harness.tables import PublishedCell, build_table

BASE, SHIFT = 0.7, 0.05
STAGGER = [0.001 * (seed - 4.5) for seed in range(10)]


def cold_start_spec(**changes):
    values = {
        "title": "Table 1: 100 % of it",
        "paper": "Some & Body, Table 1",
        "kind": "cells",
        "task": "cold_start",
        "datasets": ["ml-1m", "taobao"],
        "metrics": ["cold/auc", "cold/relaimpr"],
        "reference": "Ours(DeepFM)",
        "baseline": "DeepFM",
        "seeds": list(range(10)),
        "rows": [
            {"name": "DeepFM", "method": "bare_backbone"},
            {"name": "Other"},
            {"name": "Ours(DeepFM)", "method": "ours", "mark": "half the size"},
        ],
    }
    return TableSpec.model_validate(values | changes)


def trial(row, seed, auc, selection="tuned", dataset="ml-1m", **changes):
    values = {
        "trial_id": f"{row}-{selection}-{seed}",
        "status": "finished",
        "metrics": {"test/cold/auc": auc, "test/cold/auc_standard_error": 0.002},
        "parameters": '{"rho": 0.001}',
        "data_hash": "0123456789abcdef",
        "data_note": "assembled from copies",
        "wall_seconds": 30.0,
        "peak_memory_bytes": 512 * 2**20,
        "search_trials": 20,
        "search_distinct": 18,
        "space_hash": "feed",
    }
    return Measured(dataset, row, selection, seed, **(values | changes))


def cold_start_trials():
    base = [trial("DeepFM", seed, BASE + STAGGER[seed]) for seed in range(10)]
    ours = [trial("Ours(DeepFM)", seed, BASE + STAGGER[seed] + SHIFT + 0.0001 * seed) for seed in range(9)]
    failed = trial("Ours(DeepFM)", 9, 0, status="failed", metrics={}, error="TrialError: loss is nan | step_3")
    return [*base, *ours, failed]


def cold_start_published():
    printed = {"DeepFM": (0.7013, 0.0), "Other": (0.71, 4.35), "Ours(DeepFM)": (0.7343, 16.39)}
    cells = {}
    for dataset in ("ml-1m", "taobao"):
        for row, (auc, relative) in printed.items():
            cells[dataset, row, "cold/auc"] = PublishedCell(auc)
            cells[dataset, row, "cold/relaimpr"] = PublishedCell(relative, "suspect" if row == "Other" else "")
    return cells


def cold_start_table(**changes):
    return build_table(cold_start_spec(**changes), cold_start_published(), cold_start_trials(), {"ml-1m"})


def next_item_spec(**changes):
    return TableSpec.model_validate(
        {
            "title": "Sequences",
            "paper": "Some & Body, Table 2",
            "kind": "cells",
            "task": "next_item",
            "datasets": ["beauty"],
            "metrics": ["recall@5", "ndcg@5"],
            "reference": "B",
            "seeds": [0, 1],
            "rows": [{"name": "A", "method": "a"}, {"name": "B", "method": "b"}],
        }
        | changes
    )


def next_item_trials():
    ranks = {("A", 0): (1, 9, 9, 2), ("A", 1): (1, 1, 9, 9), ("B", 0): (9, 3, 9, 9), ("B", 1): (9, 9, 9, 9)}
    trials = []
    for (row, seed), rank in ranks.items():
        metrics = {"test/recall@5": sum(r <= 5 for r in rank) / 4, "test/ndcg@5": 0.1}
        trials.append(trial(row, seed, 0, dataset="beauty", metrics=metrics, ranks=rank))
    return trials
