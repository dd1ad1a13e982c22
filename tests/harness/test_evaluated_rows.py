"""Rows whose trials train nothing on the table's datasets: other guidance or fewer steps, and zero-shot."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.datasets.synthetic import write_small_sequences
from harness.errors import InputError
from harness.measured import Measured, read_measured
from harness.running import open_table, run_table
from harness.store import Store
from harness.table_specs import find_table
from harness.tablerun import Options
from harness.tables import to_markdown
from tests.harness.small_table import SEQUENCES, TABLE, SmallTable, play, small_next_item

TRAINED: dict[str, Any] = {"name": "Trained", "method": "last_item", "parameters": {"size": 4}}
EVALUATED: dict[str, Any] = {
    "name": "Evaluated",
    "method": "last_item",
    "parameters": {"dropout": 0.5},
    "starts_from": "Trained",
    "evaluates": True,
}
ELSEWHERE, FURTHER = "elsewhere", "further"


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SmallTable:
    monkeypatch.setattr("harness.figures.write_figures", lambda table, folder: None)
    table = small_next_item(tmp_path, seeds=[0, 1], rows=[TRAINED, EVALUATED])
    for seed, name in enumerate((ELSEWHERE, FURTHER), start=1):
        write_small_sequences(tmp_path / "data" / "prepared" / name, seed, users=60, items=20)
    return table


def run(small: SmallTable, *, published: bool = True) -> tuple[dict[tuple[str, int], Measured], list[str]]:
    said: list[str] = []
    _, failures = run_table(
        Options(TABLE, published=published), small.places, said.append, address=None, cpus=None, serial=True
    )
    assert failures == 0
    records = read_measured(small.places.results / TABLE / "measured.parquet")
    return {(record.row, record.seed): record for record in records}, said


def test_an_evaluated_row_takes_over_and_does_not_train(small: SmallTable) -> None:
    found, _ = run(small)
    for seed in (0, 1):
        trained, evaluated = found["Trained", seed], found["Evaluated", seed]
        assert "epochs" in trained.metrics
        assert "epochs" not in evaluated.metrics
        # Dropout is of training alone.
        assert evaluated.metrics["test/recall@5"] == trained.metrics["test/recall@5"]
        assert json.loads(evaluated.parameters) == json.loads(trained.parameters) | {"dropout": 0.5}
        result = small.store.record(evaluated.trial_id)
        assert result is not None
        assert result.spec.starts_from is not None
        assert result.spec.starts_from.id == trained.trial_id


def test_nothing_is_searched_for_an_evaluated_row(small: SmallTable) -> None:
    found, _ = run(small, published=False)
    trained, evaluated = found["Trained", 0], found["Evaluated", 0]
    assert json.loads(evaluated.parameters) == json.loads(trained.parameters) | {"dropout": 0.5}
    assert (evaluated.selection, evaluated.search_trials) == ("tuned", 4)
    records = [small.store.record(trial_id) for trial_id in small.store.ids()]
    searched = [record.spec for record in records if record and record.spec.purpose == "search"]
    assert len(searched) == 4
    assert all(spec.starts_from is None for spec in searched)


GUIDED: dict[str, Any] = {"size": 8, "guidance": 2, "maximum_epochs": 2, "batch_size": 32, "diffusion_steps": 20}


@pytest.mark.parametrize(("axis", "values", "same"), [("guidance", [0, 2, 6], 2), ("ddim_steps", [1, 4, 20], 20)])
def test_guidance_and_steps_are_evaluated_on_one_checkpoint(
    small: SmallTable, axis: str, values: list[int], same: int
) -> None:
    small.add_method("preferdiff", "trainables.next_item.preferdiff:PreferDiff", published=published({}))
    rows = [
        {"name": "As trained", "method": "preferdiff", "parameters": GUIDED, "fixed": True},
        {"name": "PreferDiff", "method": "preferdiff", "starts_from": "As trained", "evaluates": True},
    ]
    small.write_table(kind="curve", axis={"parameter": axis, "values": values}, rows=rows, seeds=[0])
    found, _ = run(small)
    at = {value: found[f"PreferDiff at {axis} = {value}", 0] for value in values}
    assert not any("epochs" in record.metrics for record in at.values())
    assert at[same].ranks == found["As trained", 0].ranks
    assert len({record.ranks for record in at.values()}) == len(values)


def published(parameters: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"datasets": ["*"], "source": "chosen here", "parameters": parameters}]


def zero_shot(*datasets: str, **keys: Any) -> dict[str, Any]:
    return {"name": "Zero-shot", "method": "last_item", "pretrained_on": list(datasets)} | keys


def test_a_pretrained_row_trains_elsewhere_and_ranks_here(small: SmallTable) -> None:
    small.write_table(rows=[{"name": "Own", "method": "last_item"}, zero_shot(ELSEWHERE)], seeds=[0, 1])
    found, _ = run(small)
    assert {row for row, _ in found} == {"Own", "Zero-shot"}
    assert {record.dataset for record in found.values()} == {SEQUENCES}
    for seed in (0, 1):
        result = small.store.record(found["Zero-shot", seed].trial_id)
        assert result is not None
        assert (result.spec.dataset, "epochs" in result.metrics) == (SEQUENCES, False)
        start = result.spec.starts_from
        assert start is not None
        assert (start.dataset, start.seed, start.starts_from) == (ELSEWHERE, seed, None)
        assert found["Zero-shot", seed].ranks != found["Own", seed].ranks


def test_several_datasets_follow_one_another(small: SmallTable) -> None:
    small.write_table(rows=[zero_shot(ELSEWHERE, FURTHER)], seeds=[0])
    found, _ = run(small)
    result = small.store.record(found["Zero-shot", 0].trial_id)
    second = result.spec.starts_from if result else None
    first = second.starts_from if second else None
    assert second is not None
    assert first is not None
    assert [(spec.dataset, spec.parameters.get("train")) for spec in (first, second)] == [
        (ELSEWHERE, None),
        (FURTHER, True),
    ]
    trained = small.store.record(second.id)
    assert trained is not None
    assert "epochs" in trained.metrics


def test_the_study_of_a_pretrained_row_is_where_it_trains(small: SmallTable) -> None:
    small.write_table(rows=[zero_shot(ELSEWHERE)], seeds=[0, 1])
    schedule = small.schedule()
    assert schedule.lines == []  # the request lacks the dataset that it is pretrained on
    found, _ = run(small, published=False)
    record = found["Zero-shot", 0]
    assert (record.selection, record.search_trials) == ("tuned", 4)
    stored = [small.store.record(trial_id) for trial_id in small.store.ids()]
    assert {r.spec.dataset for r in stored if r and r.spec.purpose == "search"} == {ELSEWHERE}


def test_how_the_task_is_done_is_not_carried_from_another_dataset(small: SmallTable) -> None:
    here = {"datasets": [SEQUENCES], "source": "chosen here", "parameters": {"learning_rate": 0.5, "batch_size": 7}}
    there = {"datasets": [ELSEWHERE], "source": "chosen here", "parameters": {"learning_rate": 0.1, "patience": 3}}
    small.add_method("last_item", "tests.doubles:LastItem", published=[here, there])
    small.write_table(rows=[zero_shot(ELSEWHERE)], seeds=[0])
    found, _ = run(small)
    assert json.loads(found["Zero-shot", 0].parameters) == {"learning_rate": 0.1, "batch_size": 7}


def test_a_pretrained_row_shares_its_start_with_a_table_of_that_dataset(small: SmallTable) -> None:
    small.write_table(rows=[zero_shot(SEQUENCES), {"name": "Own", "method": "last_item"}], seeds=[0])
    found, _ = run(small)
    result = small.store.record(found["Zero-shot", 0].trial_id)
    assert result is not None
    assert result.spec.starts_from is not None
    assert result.spec.starts_from.id == found["Own", 0].trial_id
    assert found["Zero-shot", 0].ranks == found["Own", 0].ranks
    assert len(Store(small.places.store).ids()) == 2


def test_without_the_pretraining_data_the_row_says_so(small: SmallTable) -> None:
    rows = [{"name": "Own", "method": "last_item"}, zero_shot("nowhere")]
    small.write_table(rows=rows, seeds=[0])
    found, said = run(small)
    assert {row for row, _ in found} == {"Own"}
    assert any(line.startswith("nowhere: no data") for line in said)
    table = open_table(TABLE, small.places)
    assert table.status[SEQUENCES, "Zero-shot"] == "no data"
    assert "No data: Zero-shot." in to_markdown(table)


def test_jobs_come_in_order(small: SmallTable) -> None:
    jobs = play(small.schedule(selection="published"), small.store)
    assert [(job.spec.seed, job.spec.starts_from is not None) for job in jobs] == [
        (0, False),
        (1, False),
        (0, True),
        (1, True),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"name": "A", "method": "last_item", "evaluates": True}], r"rows.A.evaluates: goes with starts_from"),
        ([TRAINED, EVALUATED | {"method": "raises"}], r"rows.Evaluated.evaluates: 'Trained' is of method last_item"),
        ([TRAINED, zero_shot("b", starts_from="Trained")], r"pretrained_on: a row with starts_from has its start"),
        ([{"name": "A", "pretrained_on": "b"}], r"rows.A.pretrained_on: a row without a method never runs"),
        ([zero_shot("b", "b")], r"'b' stands twice"),
    ],
)
def test_rows_that_cannot_be(small: SmallTable, rows: list[dict[str, Any]], message: str) -> None:
    small.write_table(rows=rows)
    with pytest.raises(InputError, match=message):
        find_table(TABLE, small.places.results)
