from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from harness.errors import InputError
from harness.specs import Method, TrialSpec
from harness.table_rows import Point
from harness.table_specs import TableSpec, find_table
from harness.yaml_files import parse_yaml
from tests.harness.small_table import write_yaml

SPEC: dict[str, Any] = {
    "task": "next_item",
    "dataset": "d",
    "dataset_hash": "h",
    "method": "m",
    "parameters": {"rate": 0.1, "size": 64},
    "versions": {"m": 1, "next_item": 1},
    "seed": 0,
    "threads": 1,
    "purpose": "repeat",
}
METHOD: dict[str, Any] = {"name": "m", "title": "M", "class": "a.b:C", "version": 1}
TABLE: dict[str, Any] = {
    "title": "T",
    "paper": "P",
    "kind": "cells",
    "task": "next_item",
    "datasets": ["d"],
    "metrics": ["recall@5"],
    "seeds": [0],
    "rows": [{"name": "A", "method": "m"}, {"name": "B"}],
}

AXIS: dict[str, Any] = {"parameter": "rate", "values": [0.1, 1], "log": True}
CURVE: dict[str, Any] = {"kind": "curve", "axis": AXIS}
COUNTS: dict[str, Any] = {"title": "T", "paper": "P", "kind": "statistics", "datasets": ["d"], "metrics": ["users"]}


# Trials


@pytest.mark.parametrize(
    "change",
    [
        {"task": "cold_start"},
        {"dataset": "e"},
        {"dataset_hash": "i"},
        {"method": "n"},
        {"parameters": {"rate": 0.1}},
        {"parameters": {"rate": 0.1, "size": 65}},
        {"parameters": {"rate": 0.1, "size": "64"}},
        {"versions": {"m": 2, "next_item": 1}},
        {"versions": {"m": 1, "next_item": 2}},
        {"seed": 1},
        {"threads": 2},
        {"purpose": "search"},
        {"gpus": 0.5},
        {"starts_from": TrialSpec(**SPEC)},
    ],
)
def test_the_id_depends_on_all_that_a_trial_is(change: dict[str, Any]) -> None:
    assert TrialSpec(**SPEC | change).id != TrialSpec(**SPEC).id


def test_the_id_depends_on_what_the_start_is() -> None:
    starts = [TrialSpec(**SPEC | {"seed": seed}) for seed in range(2)]
    assert len({TrialSpec(**SPEC | {"starts_from": start}).id for start in starts}) == 2


def test_the_setup_is_all_but_the_seeds() -> None:
    start = TrialSpec(**SPEC | {"method": "start"})
    one = TrialSpec(**SPEC, starts_from=start)
    other = TrialSpec(**SPEC | {"seed": 1}, starts_from=TrialSpec(**SPEC | {"method": "start", "seed": 2}))
    assert one.id != other.id and one.setup == other.setup
    for change in ({"versions": {"m": 2}}, {"threads": 2}, {"parameters": {}}, {"dataset_hash": "i"}):
        assert TrialSpec(**SPEC | change).setup != TrialSpec(**SPEC).setup
        elsewhere = TrialSpec(**SPEC, starts_from=TrialSpec(**SPEC | {"method": "start"} | change))
        assert elsewhere.setup != one.setup


def test_a_start_on_other_data_is_told_however_far_back_it_lies() -> None:
    alone, other = TrialSpec(**SPEC), TrialSpec(**SPEC | {"dataset": "e", "dataset_hash": "i"})
    back = TrialSpec(**SPEC, starts_from=other)
    assert [spec.starts_elsewhere for spec in (alone, other, TrialSpec(**SPEC, starts_from=alone))] == [False] * 3
    assert back.starts_elsewhere and TrialSpec(**SPEC, starts_from=back).starts_elsewhere


def test_the_id_does_not_depend_on_the_order_of_keys() -> None:
    backwards = dict(reversed(SPEC.items()))
    for key in ("parameters", "versions"):
        backwards[key] = dict(reversed(SPEC[key].items()))
    assert TrialSpec(**backwards).id == TrialSpec(**SPEC).id


def test_the_id_is_the_same_after_json_and_in_other_processes() -> None:
    spec = TrialSpec(**SPEC | {"starts_from": TrialSpec(**SPEC), "parameters": {"a": (1, 2.0), "b": None, "c": "ü"}})
    code = "import sys; from harness.specs import TrialSpec; print(TrialSpec.model_validate_json(sys.argv[1]).id)"
    for hash_seed in ("0", "1"):
        environment = os.environ | {"PYTHONHASHSEED": hash_seed}
        command = [sys.executable, "-c", code, spec.model_dump_json()]
        printed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
        assert printed.strip() == spec.id


def test_the_id_of_this_spec_is_this() -> None:
    """Whoever changes how ids are made sees that all stores become useless."""
    assert TrialSpec(**SPEC).id == "3cf636b85abb86d4c71d"


def test_parameters_keep_their_types() -> None:
    parameters = {"a": True, "b": 1, "c": 1.0, "d": "1", "e": None, "f": [1, "x", 2.5]}
    spec = TrialSpec(**SPEC | {"parameters": parameters})
    kept = spec.parameters
    assert [type(value) for value in kept.values()] == [bool, int, float, str, type(None), tuple]
    assert (
        TrialSpec.model_validate_json(TrialSpec(**SPEC | {"parameters": parameters}).model_dump_json()).parameters
        == kept
    )


def test_parameters_that_no_json_can_hold_are_refused() -> None:
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValidationError, match="finite"):
            TrialSpec(**SPEC | {"parameters": {"rate": value}})


# Methods


def test_published_parameters_of_a_dataset_go_before_those_of_all() -> None:
    entries = [
        {"datasets": ["*"], "source": "s", "parameters": {"rate": 1}},
        {"datasets": ["a", "b"], "source": "s", "parameters": {"rate": 2}},
    ]
    method = Method(**METHOD | {"published": entries})
    assert [method.published_for(name) for name in "abc"] == [{"rate": 2}, {"rate": 2}, {"rate": 1}]
    assert Method(**METHOD | {"published": entries[1:]}).published_for("c") is None
    longer = ("a-history-50", "a-synthetic-1m", "a-history-50-synthetic-1m", "c-history-50")
    assert [method.published_for(name) for name in longer] == [{"rate": 2}] * 3 + [{"rate": 1}]
    assert Method(**METHOD).published_for("a") is None


def test_the_space_hash_follows_the_space_alone() -> None:
    def space_hash(space: str, **keys: Any) -> str:
        return Method(**METHOD | {"space": parse_yaml(space, "f")} | keys).space_hash

    one = "{rate: {low: 1e-3, high: 1}, size: {choices: [1, 2]}}"
    assert space_hash(one) == space_hash(
        "{size: {choices: [1, 2]}, rate: {low: 0.001, high: 1, log: false}}", version=2
    )
    others = ["{rate: {low: 1e-3, high: 1}}", one.replace("1e-3", "1e-4"), one.replace("[1, 2]", "[2, 1]")]
    assert len({space_hash(other) for other in [one, *others]}) == 4


def test_ranges_of_integers_and_of_floats() -> None:
    space = Method(**METHOD | {"space": parse_yaml("{a: {low: 1, high: 8}, b: {low: 0, high: 1.0}}", "f")}).space
    assert [type(value) for value in space["a"].model_dump().values()] == [int, int, bool]
    assert [type(value) for value in space["b"].model_dump().values()] == [int, float, bool]


# Tables


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"reference": "AA"}, r"reference: no row 'AA'; did you mean 'A'\?"),
        ({"baseline": "AA"}, r"baseline: no row 'AA'; did you mean 'A'\?"),
        ({"seeds": [0, 1, 0]}, "0 stands twice"),
        ({"datasets": ["d", "d"]}, "'d' stands twice"),
        ({"metrics": ["auc", "auc"]}, "'auc' stands twice"),
        ({"rows": [{"name": "A"}, {"name": "A"}]}, "rows: 'A' stands twice"),
        ({"rows": [{"name": "A, B"}]}, "rows: 'A, B' is empty, or has a comma or spaces around it"),
        ({"rows": [{"name": "A "}]}, "rows: 'A ' is empty, or has a comma or spaces around it"),
        ({"rows": [{"name": ""}]}, "rows: '' is empty, or has a comma or spaces around it"),
        ({"rows": [{"name": "A", "starts_from": "A"}]}, r"rows\.A\.starts_from: 'A' must stand above it"),
        ({"rows": [{"name": "A", "starts_from": "B"}, {"name": "B"}]}, r"'B' must stand above it"),
        ({"rows": [{"name": "DeepFM"}, {"name": "B", "starts_from": "DeepFN"}]}, r"did you mean 'DeepFM'\?"),
        (
            {"rows": [{"name": "A"}, {"name": "B", "method": "m", "starts_from": "A"}]},
            "'A' has no method, so it never runs",
        ),
        ({"seeds": [-1]}, "greater than or equal to 0"),
        ({"threads": 0}, "greater than or equal to 1"),
        ({"gpus": -1}, "greater than or equal to 0"),
        ({"search": {"parallel": 0}}, "greater than or equal to 1"),
        ({"kind": "cell"}, "should be 'cells'"),
        ({"reference": ["A", "AA"]}, "reference: no row 'AA'"),
        ({"order": ["A", "C"]}, "order: no row 'C'"),
        ({"order": ["A", "A"]}, "'A' stands twice"),
        ({"baseline": ["A", "B"]}, "baseline: the table has two; one a group is enough"),
        ({"axis": {"parameter": "rate", "values": [1]}}, "axis: a table of kind cells has none"),
        ({"task": ""}, "key 'task' is missing: a table of kind cells needs it"),
        ({"rows": []}, "key 'rows' is missing"),
        ({"seeds": []}, "key 'seeds' is missing"),
        ({"kind": "curve"}, "key 'axis' is missing: a table of kind curve needs it"),
        (CURVE | {"axis": AXIS | {"values": [0, 1]}}, "a logarithmic axis needs values above 0, not 0"),
        (CURVE | {"axis": AXIS | {"values": [1, 1]}}, "1 stands twice"),
        (CURVE | {"figure": "stages"}, "figure: a table of kind curve has none"),
        (
            {"figure": "rows", "metrics": ["auc", "optimum_auc"]},
            "figure: rows are drawn from training_rows and optimum_auc; add training_rows to the metrics",
        ),
        (
            {"figure": "rows", "metrics": ["training_rows", "auc"]},
            "figure: rows are drawn from training_rows and optimum_auc; add optimum_auc to the metrics",
        ),
        (
            {"figure": "rows", "metrics": ["training_rows", "optimum_auc"]},
            "figure: rows are drawn for metrics in which methods differ; add one to the metrics",
        ),
        (
            CURVE | {"rows": [{"name": "A"}, {"name": "B", "starts_from": "A", "fixed": True}]},
            "'A' stands at every value; make it fixed too",
        ),
        ({"rows": [{"name": "A", "fixed": True}]}, r"rows\.A\.fixed: only rows of a curve are"),
        ({"rows": [{"name": "A", "shared_backbone": True}]}, r"rows\.A\.shared_backbone: goes with starts_from"),
        (
            {"rows": [{"name": "A", "method": "m"}, {"name": "B", "method": "m", "starts_from": "A", "untuned": True}]},
            r"rows\.B\.untuned: its parameters, or its start's, are those of A; make that untuned too",
        ),
        (
            {"kind": "timing", "rows": [{"name": "A", "method": "m"}, {"name": "B", "starts_from": "A"}]},
            r"rows\.B\.starts_from: a timed trial trains for itself",
        ),
        ({"kind": "timing", "baseline": "A"}, "baseline: a table of kind timing has none"),
        ({"kind": "statistics"}, "task: a table of kind statistics has none; remove it"),
        ({"metrics": ["Recall 5"]}, "match pattern"),
        ({"tolerance": {"recal": 0.001}}, r"tolerance: 'recal' is no metric of the table; did you mean 'recall'\?"),
        ({"tolerance": {"recall": "ten"}}, "recall: 'ten' is neither a number nor like '10%'"),
        ({"tolerance": {"recall": "0.1"}}, "recall: '0.1' is neither a number nor like '10%'"),
        ({"tolerance": {"recall@5": -0.1}}, "recall@5: -0.1 is neither a number nor like '10%'"),
        ({"tolerance": {"recall@5": "nan%"}}, "recall@5: 'nan%' is neither a number nor like '10%'"),
    ],
)
def test_tables_that_cannot_be_meant(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        TableSpec(**TABLE | keys)


def test_rows_by_name() -> None:
    table = TableSpec(**TABLE)
    assert table.row("A").method == "m"
    with pytest.raises(InputError, match=r"^no row 'a' in the table; known: A, B$"):
        table.row("a")


def test_tables_are_found_by_their_folder(tmp_path: Path) -> None:
    write_yaml(tmp_path / "csdm" / "table1" / "table.yaml", TABLE)
    write_yaml(tmp_path / "csdm" / "table2" / "table.yaml", TABLE | {"kid": "cells"})
    table, folder = find_table("csdm/table1", tmp_path)
    assert (table.title, folder) == ("T", tmp_path / "csdm" / "table1")
    with pytest.raises(InputError, match=r"^unknown table 'cdsm/table1'; did you mean 'csdm/table1'\?$"):
        find_table("cdsm/table1", tmp_path)
    with pytest.raises(InputError, match=r"table2/table\.yaml: unknown key 'kid'; did you mean 'kind'\?$"):
        find_table("csdm/table2", tmp_path)


@pytest.mark.parametrize("keys", [{"seeds": [0, 2**63]}, {"threads": 4097}])
def test_numbers_that_no_trial_could_take_are_refused(keys: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="less than or equal to"):
        TableSpec(**TABLE | keys)
    assert TableSpec(**TABLE | {"seeds": [2**63 - 1], "threads": 4096}).threads == 4096


def test_a_folder_without_tables_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"^unknown table 'csdm/table1': .*elsewhere holds no tables; DIFFBENCH_RES"):
        find_table("csdm/table1", tmp_path / "elsewhere")


def test_a_row_that_is_not_known_is_answered_with_each_name_once() -> None:
    with pytest.raises(ValidationError, match="reference: no row 'C'; known: A, B "):
        TableSpec(**TABLE | {"rows": [{"name": "A"}, {"name": "B"}], "reference": "C"})


def test_values_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        TableSpec(**TABLE).title = "another"


def test_a_row_of_a_curve_stands_at_every_value_with_its_start() -> None:
    rows = [
        {"name": "Base", "method": "b", "fixed": True},
        {"name": "A", "method": "m", "parameters": {"size": 2}, "starts_from": "Base"},
        {"name": "B", "method": "n", "starts_from": "A"},
    ]
    table = TableSpec(**TABLE | CURVE | {"rows": rows, "reference": "A at rate = 1"})
    assert [(row.name, row.parameters, row.starts_from) for row in table.rows] == [
        ("Base", {}, None),
        ("A at rate = 0.1", {"size": 2, "rate": 0.1}, "Base"),
        ("A at rate = 1", {"size": 2, "rate": 1}, "Base"),
        ("B at rate = 0.1", {"rate": 0.1}, "A at rate = 0.1"),
        ("B at rate = 1", {"rate": 1}, "A at rate = 1"),
    ]
    assert [(row.line, row.value) for row in table.rows if isinstance(row, Point)][:2] == [("A", 0.1), ("A", 1)]
    with pytest.raises(ValidationError, match="baseline: no row 'A'"):
        TableSpec(**TABLE | CURVE | {"rows": rows, "baseline": "A"})


def test_points_of_a_curve_are_compared_with_the_references_point_at_their_value() -> None:
    rows = [{"name": "A", "method": "a"}, {"name": "B", "method": "b"}, {"name": "Fixed", "method": "a", "fixed": True}]
    table = TableSpec(**TABLE | CURVE | {"rows": rows, "reference": ["A", "Fixed"]})
    compared = {row.name: [table.compared_with(row, reference) for reference in table.references] for row in table.rows}
    points = [row.name for row in table.rows if isinstance(row, Point) and row.line == "A"]
    for point in points:
        assert compared[point] == [None, "Fixed"]
        assert compared[point.replace("A", "B", 1)] == [point, "Fixed"]
    assert compared["Fixed"] == [None, None]
    at_one = TableSpec(**TABLE | CURVE | {"rows": rows, "reference": points[0]})
    assert at_one.compared_with(at_one.rows[1], points[0]) == points[0]


def test_baseline_and_references_are_those_of_the_group_or_else_of_the_rows_without_one() -> None:
    rows = [
        {"name": "Base"},
        {"name": "Own"},
        {"name": "Deep", "group": "deep"},
        {"name": "Own(Deep)", "group": "deep"},
        {"name": "Wide", "group": "wide"},
    ]
    table = TableSpec(**TABLE | {"rows": rows, "baseline": ["Base", "Deep"], "reference": ["Own", "Own(Deep)", "Base"]})
    assert [table.baseline_of(row) for row in table.rows] == ["Base", "Base", "Deep", "Deep", "Base"]
    assert table.references_of(table.row("Own")) == ("Own", "Base")
    assert table.references_of(table.row("Deep")) == ("Own(Deep)",)
    assert table.references_of(table.row("Wide")) == ("Own", "Base")
    assert TableSpec(**TABLE).baseline_of(table.row("Own")) is None


def test_a_table_that_counts_has_one_row_and_nothing_to_run() -> None:
    table = TableSpec(**COUNTS)
    assert [row.name for row in table.rows] == ["counted"]
    assert (table.task, table.seeds, table.alone) == ("", (), False)


def test_each_trial_of_a_timing_is_alone() -> None:
    assert TableSpec(**TABLE | {"kind": "timing"}).alone
    assert not TableSpec(**TABLE).alone
