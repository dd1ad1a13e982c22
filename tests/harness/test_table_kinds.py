"""Tables of every kind from `run` to their folder, on small generated data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.datasets.prepared import PreparedDataset, Schema
from harness.errors import InputError
from harness.measured import read_measured
from harness.methods import MethodCatalog
from harness.places import places
from harness.request import Request
from harness.running import open_table, plan_table, run_table
from harness.schedule import Schedule
from harness.store import Store
from harness.table_specs import find_table
from harness.tablerun import Options
from harness.tables import to_markdown
from tests.harness.small_table import INTERACTIONS, TABLE, SmallTable, small_cold_start

PUBLISHED: dict[str, Any] = {
    "published": [{"datasets": ["*"], "source": "chosen here", "parameters": {"learning_rate": 0.02}}]
}
RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture
def small(tmp_path: Path) -> SmallTable:
    table = small_cold_start(tmp_path)
    table.add_method("plain", "tests.doubles:Plain", **PUBLISHED)
    return table


def rewrite(small: SmallTable, **keys: Any) -> None:
    """Replace keys of the table's file; None takes one away."""
    path = small.places.results / TABLE / "table.yaml"
    content = yaml.safe_load(path.read_text()) | keys
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))


def run(small: SmallTable, *, published: bool = True, **options: Any) -> list[str]:
    said: list[str] = []
    asked = Options(TABLE, published=published, **options)
    _, failures = run_table(asked, small.places, said.append, address=None, cpus=None, serial=True)
    assert failures == 0
    return said


def measured(small: SmallTable) -> list[Any]:
    return read_measured(small.places.results / TABLE / "measured.parquet")


def files(small: SmallTable) -> set[str]:
    return {path.name for path in (small.places.results / TABLE).iterdir()}


CURVE: dict[str, Any] = {
    "kind": "curve",
    "seeds": [0, 1],
    "axis": {"parameter": "new", "values": [0.0, 1.0]},
    "rows": [
        {"name": "Bare", "method": "plain", "parameters": {"backbone": "item_factors"}, "fixed": True},
        {"name": "Plain", "method": "plain", "starts_from": "Bare"},
    ],
}


def test_a_curve_runs_every_row_at_every_value(small: SmallTable) -> None:
    rewrite(small, **CURVE)
    run(small)
    found = {(record.row, record.seed): json.loads(record.parameters) for record in measured(small)}
    assert set(found) == {(row, seed) for row in ("Bare", "Plain at new = 0", "Plain at new = 1") for seed in (0, 1)}
    assert found["Plain at new = 1", 0] == {"learning_rate": 0.02, "new": 1.0}
    assert found["Bare", 0] == {"learning_rate": 0.02, "backbone": "item_factors"}
    assert {"curve.png", "curve.svg", "table.md"} <= files(small)
    text = (small.places.results / TABLE / "table.md").read_text()
    assert "| Plain at new = 1 | ours, published parameters |" in text
    assert "**" not in text  # points do not compete


def test_a_value_that_is_the_default_shares_its_trial_with_other_tables(small: SmallTable) -> None:
    rewrite(small, **CURVE)
    run(small)
    ids = {(record.row, record.seed): record.trial_id for record in measured(small)}
    rows = [{"name": "Bare", "method": "plain", "parameters": {"backbone": "item_factors"}}]
    rows += [{"name": "Plain", "method": "plain", "starts_from": "Bare"}]
    rewrite(small, kind="cells", axis=None, rows=rows)
    schedule = small.schedule(selection="published")
    (line,) = (line for line in schedule.lines if line.row.name == "Plain")
    assert {seed: spec.id for seed, spec in line.repeats.items()} == {s: ids["Plain at new = 0", s] for s in (0, 1)}
    assert schedule.next_job() is None


def test_all_points_of_a_curve_are_chosen_by_its_name(small: SmallTable) -> None:
    other = {"name": "Other", "method": "plain", "starts_from": "Bare"}
    rewrite(small, **CURVE | {"rows": [*CURVE["rows"], other]})
    run(small, methods="Plain", seeds="0")
    assert [record.row for record in measured(small)] == ["Bare", "Plain at new = 0", "Plain at new = 1"]


TIMING: dict[str, Any] = {
    "kind": "timing",
    "task": "cold_start_timing",
    "metrics": ["train/batch_ms", "fit/step_ms"],
    "seeds": [0, 1],
    "search": None,
    "rows": [
        {"name": "Plain", "method": "plain", "parameters": {"backbone": "item_factors", "batches": 3, "warm_up": 1}}
    ],
}


def test_a_timing_says_where_it_was_taken_and_searches_nothing(small: SmallTable) -> None:
    rewrite(small, **TIMING)
    run(small, published=False)
    records = measured(small)
    assert [record.selection for record in records] == ["published"] * 2
    assert all(record.metrics["test/train/batch_ms"] > 0 for record in records)
    assert all("1 thread, torch" in record.environment for record in records)
    assert {"times.png", "times.svg"} <= files(small)
    table = open_table(TABLE, small.places)
    assert f"Timed on: {records[0].environment}." in to_markdown(table).replace("\\_", "_")
    assert table.cell(INTERACTIONS, "Plain", "train/batch_ms").measured["published"].summary.n == 2
    assert str(plan_table(Options(TABLE), small.places, print, cpus=8).caption).startswith("0 trials, 1 at a time")


def test_the_environment_is_kept_of_timings_alone(small: SmallTable) -> None:
    run(small)
    assert {record.environment for record in measured(small)} == {""}


STATISTICS: dict[str, Any] = {
    "kind": "statistics",
    "metrics": ["users", "items", "rows"],
    "task": None,
    "seeds": None,
    "search": None,
    "rows": None,
}


def test_statistics_are_counted_without_a_trial(small: SmallTable) -> None:
    rewrite(small, **STATISTICS, datasets=[INTERACTIONS, "elsewhere"])
    schema = small.dataset.schema
    (small.places.results / TABLE / "published.csv").write_text(
        "dataset,row,metric,value,flag\n"
        f"{INTERACTIONS},counted,users,{schema.users},\n"
        f"{INTERACTIONS},counted,items,{schema.items + 1},\n"
        "elsewhere,counted,users,12345,odd\n"
    )
    said = run(small, published=False)
    assert any(line.startswith("elsewhere: no data") for line in said)
    assert Store(small.places.store).ids() == []
    (record,) = measured(small)
    rows = small.dataset.schema.facts["rows"]
    assert record.metrics == {
        "test/users": schema.users,
        "test/items": schema.items,
        "test/rows": rows,
        "test/interactions": rows,
        "test/average_length": rows / schema.users,
    }
    text = (small.places.results / TABLE / "table.md").read_text()
    assert f"| {INTERACTIONS} | paper | {schema.users} | {schema.items + 1} | – |" in text
    assert f"|  | ours | {schema.users} ✓ | {schema.items} ✗ | {rows:,} |" in text
    assert "| elsewhere | paper (no data) | 12,345<sup>1</sup> | – | – |" in text
    assert {"counts.png", "counts.svg"} <= files(small)
    assert plan_table(Options(TABLE), small.places, print, cpus=2).row_count == 1


def test_counts_have_no_parameters_and_only_known_names(small: SmallTable) -> None:
    rewrite(small, **STATISTICS)
    with pytest.raises(InputError, match="--set rho: doubles/table1 counts datasets"):
        run(small, overrides=("rho=1",))
    rewrite(small, metrics=["user"])
    with pytest.raises(InputError, match=r"metrics: unknown metric 'user'; did you mean 'users'\?"):
        run(small)


def test_all_repeats_start_from_the_first_seeds_backbone(small: SmallTable) -> None:
    rows = [
        {"name": "Bare", "method": "plain", "parameters": {"backbone": "item_factors"}},
        {"name": "Own", "method": "plain", "parameters": {"new": 1.0}, "starts_from": "Bare"},
        {"name": "Shared", "method": "plain", "parameters": {"new": 1.0}, "starts_from": "Bare"}
        | {"shared_backbone": True},
    ]
    rewrite(small, rows=rows, seeds=[3, 4, 5])
    schedule = small.schedule(selection="published", seeds=[4, 5])
    starts = {
        line.row.name: {seed: spec.starts_from.seed for seed, spec in line.repeats.items() if spec.starts_from}
        for line in schedule.lines
    }
    assert starts == {"Bare": {}, "Own": {4: 4, 5: 5}, "Shared": {4: 3, 5: 3}}
    run(small)
    by_row = {(record.row, record.seed): record for record in measured(small)}
    assert by_row["Shared", 3].trial_id == by_row["Own", 3].trial_id
    assert by_row["Shared", 4].trial_id != by_row["Own", 4].trial_id


@pytest.mark.parametrize(
    ("table", "dataset", "row", "trial"),
    [
        ("csdm/table1", "ml-1m", "DeepFM", "cee52b21cd59550c06ee"),
        ("csdm/table1", "ml-1m", "MWUF(DeepFM)", "eb24ab22e7bd2ffd65d3"),
        ("preferdiff/table1", "amazon-beauty", "PreferDiff at 256", "ce59109dd6014d5f7e38"),
        ("preferdiff/table1", "amazon-beauty", "PreferDiff", "97b5b66021bfd022a2cb"),
        ("preferdiff/table2", "amazon-beauty", "PreferDiff", "97b5b66021bfd022a2cb"),
    ],
)
def test_the_ids_of_these_trials_are_these(table: str, dataset: str, row: str, trial: str) -> None:
    """Whoever changes what a table asks for sees that finished trials are not found any more."""
    spec, _ = find_table(table, RESULTS)
    schema = Schema(name=dataset, kind="interactions", version=1, hash="0" * 64, inputs=(), items=1, users=1, splits={})
    request = Request(spec, {dataset: PreparedDataset(Path(), schema)}, (row,), (0,), "published")
    schedule = Schedule(request, MethodCatalog(places().search_spaces), Store("nowhere"))
    (line,) = (line for line in schedule.lines if line.row.name == row)
    assert line.repeats[0].id == trial
