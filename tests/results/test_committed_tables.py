"""The folders of `results/` as they are committed: their files fit each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.datasets.prepared import PreparedDataset, Schema
from harness.figures import figure_name, plot, svg
from harness.line_trials import known_parameters
from harness.measured import read_measured
from harness.methods import MethodCatalog
from harness.places import places
from harness.request import Request
from harness.running import open_table
from harness.schedule import Schedule
from harness.specs import Selection, TrialSpec
from harness.store import Store
from harness.table_specs import TableSpec, find_table
from harness.tablerun import check_metrics
from harness.tables import read_published, to_markdown

RESULTS = Path(__file__).parent.parent.parent / "results"
TABLES = sorted(str(path.parent.relative_to(RESULTS)) for path in RESULTS.glob("*/*/table.yaml"))


@pytest.fixture(autouse=True)
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIFFBENCH_RESULTS", "DIFFBENCH_SEARCH_SPACES"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", TABLES)
def test_table_and_published_cells_can_be_read(name: str) -> None:
    spec, folder = find_table(name, RESULTS)
    check_metrics(spec)
    read_published(folder / "published.csv", spec)


@pytest.mark.parametrize("name", TABLES)
def test_rows_name_methods_and_parameters_that_exist(name: str) -> None:
    spec, _ = find_table(name, RESULTS)
    catalog = MethodCatalog(places().search_spaces)
    for row in spec.rows:
        if row.method is not None:
            assert set(row.parameters) <= set(known_parameters(row, catalog, spec.task))


def test_item_embeddings_start_as_the_rows_of_preferdiffs_table_17_are_named() -> None:
    spec, _ = find_table("preferdiff/table17", RESULTS)
    catalog = MethodCatalog(places().search_spaces)
    for row in spec.rows:
        parameters = known_parameters(row, catalog, spec.task) | row.parameters
        assert parameters["initialization"] == row.name.lower().replace(" ", "_")


@pytest.mark.parametrize("name", [name for name in TABLES if name.startswith("preferdiff/")])
def test_every_row_can_be_scheduled_once_its_data_is_there(name: str) -> None:
    spec, _ = find_table(name, RESULTS)
    if spec.kind == "statistics":
        return
    schedule = without_data(spec, "published")
    assert [line.row.name for line in schedule.lines] == [row.name for row in spec.rows if row.method]
    assert all(len(line.repeats) == 1 for line in schedule.lines)


def without_data(spec: TableSpec, selection: Selection) -> Schedule:
    """Return the schedule of a table's first dataset and seed, as if its data were there."""
    everywhere = {*spec.datasets, *(dataset for row in spec.rows for dataset in row.pretrained_on)}
    schema = Schema(name="", kind="sequences", version=1, hash="0" * 64, inputs=(), items=1, users=1, splits={})
    data = {name: PreparedDataset(Path(), schema.model_copy(update={"name": name})) for name in sorted(everywhere)}
    names = tuple(row.name for row in spec.rows)
    shown = {spec.datasets[0]: data[spec.datasets[0]]}
    request = Request(spec, shown, names, spec.seeds[:1], selection, pretraining=data)
    return Schedule(request, MethodCatalog(places().search_spaces), Store("nowhere"))


def test_dpo_is_searched_as_the_dreamrec_that_it_starts_from_is() -> None:
    """Its β is the row's; a row is shown as tuned, so all else of Table 11 is to be."""
    spec, _ = find_table("preferdiff/table20", RESULTS)
    tuned = without_data(spec, "tuned")
    searched = {
        line.row.name: {name for name, value in tuned.typical(line).items() if value is None} for line in tuned.lines
    }
    aligned = [name for name in searched if "DPO" in name]
    assert len(aligned) == 6
    assert all(searched[name] == searched["DreamRec"] == {"learning_rate", "guidance"} for name in aligned)
    for line in without_data(spec, "published").lines:
        if "DPO" in line.row.name:
            (trial,) = line.repeats.values()
            own = {"beta": line.row.parameters["beta"], "objective": line.method.published[0].parameters["objective"]}
            expected = own | {"learning_rate": 0.0001, "weight_decay": 0.0, "guidance": 2, "size": 3072}
            expected["precision"] = "bfloat16"
            assert line.parameters == expected
            assert expected.items() >= trial.parameters.items()


def repeats(name: str) -> dict[str, TrialSpec]:
    """Return the trial of each row of a table, on its first dataset and seed, with published parameters."""
    schedule = without_data(find_table(name, RESULTS)[0], "published")
    return {line.row.name: next(iter(line.repeats.values())) for line in schedule.lines}


def test_dpo_starts_from_the_dreamrec_that_table_2_trains_and_is_compared_with_its_preferdiff() -> None:
    trained, aligned = repeats("preferdiff/table2"), repeats("preferdiff/table20")
    assert {name: aligned[name].id for name in ("DreamRec", "PreferDiff")} == {
        name: trained[name].id for name in ("DreamRec", "PreferDiff")
    }
    starts = [trial.starts_from for name, trial in aligned.items() if "DPO" in name]
    assert {start and start.id for start in starts} == {trained["DreamRec"].id}


@pytest.mark.parametrize("number", [1, 6, 8, 9, 14, 15, 16])
def test_dreamrec_and_preferdiff_stand_beside_printed_numbers_at_the_printed_size(number: int) -> None:
    spec, _ = find_table(f"preferdiff/table{number}", RESULTS)
    trials = repeats(f"preferdiff/table{number}")
    catalog = MethodCatalog(places().search_spaces)
    for name in ("DreamRec", "PreferDiff"):
        parameters = known_parameters(spec.row(name), catalog, spec.task) | trials[name].parameters
        assert (parameters["size"], parameters["precision"], trials[name].threads) == (3072, "bfloat16", 2)
        assert spec.row(name).untuned
        assert "not tuned" in spec.row(name).mark


def test_figure_5_trains_no_value_of_the_weight_that_table_2_has_trained() -> None:
    trained = repeats("preferdiff/table2")
    schedule = without_data(find_table("preferdiff/figure5", RESULTS)[0], "published")
    by_weight = {line.row.parameters["balance"]: next(iter(line.repeats.values())) for line in schedule.lines}
    assert by_weight[1].id == trained["w/o-N"].id
    assert by_weight[0.4].id == trained["PreferDiff"].id, "Table 12's λ for Sports"


def test_rows_of_table_8_that_s3rec_published_are_ranked_and_trained_as_there() -> None:
    """Its program takes the items of the history out of the ranking, and learns to predict every item."""
    trials = repeats("preferdiff/table8")
    copied = [name for name in trials if name not in ("DreamRec", "TIGER", "PreferDiff")]
    assert len(copied) == 7
    assert all(trials[name].parameters["rank_history"] is False for name in copied)
    assert all(trials[name].parameters["prefixes"] for name in copied if name != "BERT4Rec")
    assert not any("rank_history" in trials[name].parameters for name in trials if name not in copied)


@pytest.mark.parametrize("name", [name for name in TABLES if (RESULTS / name / "table.md").exists()])
def test_markdown_is_what_the_measured_trials_give(name: str) -> None:
    assert (RESULTS / name / "table.md").read_text(encoding="utf-8") == to_markdown(open_table(name, places()))


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*/*/*.svg")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_pictures_are_what_the_measured_trials_give(path: Path) -> None:
    table = open_table(path.parent.relative_to(RESULTS).as_posix(), places())
    assert path.stem == figure_name(table.spec)
    assert path.with_suffix(".png").exists()
    assert path.read_text(encoding="utf-8") == svg(plot(table))


@pytest.mark.parametrize("name", [name for name in TABLES if (RESULTS / name / "measured.parquet").exists()])
def test_measured_trials_are_all_of_one_data_and_of_the_tables_seeds(name: str) -> None:
    spec, folder = find_table(name, RESULTS)
    records = read_measured(folder / "measured.parquet")
    assert {record.dataset for record in records} <= set(spec.datasets)
    assert {record.seed for record in records} <= set(spec.seeds or (0,))
    for dataset in {record.dataset for record in records}:
        assert len({record.data_hash for record in records if record.dataset == dataset}) == 1
