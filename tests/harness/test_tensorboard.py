import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugin_util import markdown_to_safe_html
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.api_pb2 import DATA_TYPE_FLOAT64, DATA_TYPE_STRING, STATUS_FAILURE, STATUS_SUCCESS

from harness.errors import StoreError
from harness.measured import Measured
from harness.record import Curve
from harness.specs import Value
from harness.store import Store
from harness.table_specs import TableSpec
from harness.tables import build_table
from harness.tensorboard import TrialEntry, write_studies, write_summary, write_trials
from harness.tensorboard.events import run_folder
from harness.tensorboard.summary import viewable
from harness.trial import ARRAYS
from tests.harness.tensorboard_example import STAGES, TABLE, archive, repeat, result, search_trial, spec


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


@pytest.fixture
def logdir(tmp_path: Path) -> Path:
    return tmp_path / "tensorboard"


def opened(logdir: Path, run: str) -> EventAccumulator:
    accumulator = EventAccumulator(str(logdir / run), size_guidance={"scalars": 0, "tensors": 0, "images": 0})
    accumulator.Reload()
    return accumulator


def shown_text(accumulator: EventAccumulator, tag: str) -> str:
    (event,) = accumulator.Tensors(tag)
    (content,) = event.tensor_proto.string_val
    assert not event.tensor_proto.tensor_shape.dim  # a vector would be shown as a table around each text
    return bytes(content).decode()


def runs(logdir: Path) -> set[str]:
    return {str(path.parent.relative_to(logdir)) for path in logdir.glob("**/events.out.tfevents.*")}


def files(logdir: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in logdir.glob("**/events.out.tfevents.*")}


def test_a_trial_is_shown_as_its_record_says(store: Store, logdir: Path) -> None:
    entry = repeat(store, 3, curves=True, rho=0.5)
    assert write_trials(TABLE, [entry], store, logdir) == 2
    assert runs(logdir) == {"csdm/table1/ml-1m/CSDM/published/seed 3", "csdm/table1/ml-1m/curves"}
    shown = opened(logdir, "csdm/table1/ml-1m/CSDM/published/seed 3")
    for name, curve in entry.result.curves.items():
        points = shown.Scalars(name)
        assert [point.step for point in points] == curve.steps
        assert [point.wall_time for point in points] == curve.seconds
        assert np.allclose([point.value for point in points], curve.values)
    finals = {tag for tag in shown.Tags()["scalars"] if tag not in entry.result.curves}
    assert finals == {f"final/test/{stage}/auc" for stage in STAGES} | {
        "time/wall_seconds",
        "time/cpu_seconds",
        "memory/peak_mib",
    }
    assert shown.Scalars("final/test/warm_b/auc")[0].value == pytest.approx(0.723)
    assert shown.Scalars("time/wall_seconds")[0].value == 12.5
    assert shown.Scalars("time/cpu_seconds")[0].value == 11.0
    assert shown.Scalars("memory/peak_mib")[0].value == 300.0
    assert shown_text(shown, "data_note") == "assembled copy"
    assert "- torch: `2.13`" in shown_text(shown, "environment")
    assert entry.result.id in shown_text(shown, "trial")
    assert '"rho": 0.5' in shown_text(shown, "trial")
    assert "error" not in shown.Tags()["tensors"]


def test_curves_are_drawn_for_a_trial_and_for_all_rows_together(store: Store, logdir: Path) -> None:
    entries = [repeat(store, seed, row, curves=True) for row in ("DeepFM", "CSDM") for seed in (1, 0)]
    assert write_trials(TABLE, entries, store, logdir) == 5
    own = opened(logdir, "csdm/table1/ml-1m/DeepFM/published/seed 1")
    assert own.Tags()["images"] == ["test/roc_and_precision_recall"]
    together = opened(logdir, "csdm/table1/ml-1m/curves")
    assert together.Tags()["images"] == [f"roc_and_precision_recall/{stage}" for stage in STAGES]
    (picture,) = together.Images("roc_and_precision_recall/cold")
    assert picture.encoded_image_string.startswith(b"\x89PNG")
    assert struct.unpack(">II", picture.encoded_image_string[16:24]) == (picture.width, picture.height) == (960, 420)
    # The first seed stands for its row, so another trial of a later seed changes nothing here.
    before = files(logdir / "csdm/table1/ml-1m/curves")
    assert write_trials(TABLE, [*entries, repeat(store, 2, "CSDM", curves=True)], store, logdir) == 1
    assert files(logdir / "csdm/table1/ml-1m/curves") == before


def test_a_task_without_stages_or_curves_has_none(store: Store, logdir: Path) -> None:
    trial = store.write(
        result(spec(0, task="next_item"), {"test/recall@5": 0.05}), {ARRAYS: archive({"test/rank": np.arange(9)})}
    )
    assert write_trials(TABLE, [TrialEntry(trial, "amazon-beauty", "SASRec", "tuned")], store, logdir) == 1
    shown = opened(logdir, "csdm/table1/amazon-beauty/SASRec/tuned/seed 0")
    assert shown.Tags()["images"] == []
    assert shown.Scalars("final/test/recall@5")[0].value == pytest.approx(0.05)


def test_one_test_set_without_stages_is_drawn(store: Store, logdir: Path) -> None:
    points = np.array([[0, 0.5, 1], [0, 0.9, 1]], dtype=np.float32)
    content = archive({"test/roc": points, "test/pr": points})
    trial = store.write(result(spec(0), {"test/auc": 0.7}), {ARRAYS: content})
    assert write_trials(TABLE, [TrialEntry(trial, "ml-1m", "FM", "published")], store, logdir) == 2
    assert opened(logdir, "csdm/table1/ml-1m/curves").Tags()["images"] == ["roc_and_precision_recall/test"]


def test_reliability_is_drawn_for_a_trial_and_for_all_rows_together(store: Store, logdir: Path) -> None:
    content = archive({"test/reliability": np.array([[0.1, 0.4], [0.2, 0.3], [5, 5]])})
    entries = [
        TrialEntry(store.write(result(spec(seed), {}), {ARRAYS: content}), "ml-1m-ctr", row, "published")
        for seed, row in enumerate(("FM", "DCN"))
    ]
    assert write_trials(TABLE, entries, store, logdir) == 3
    assert opened(logdir, "csdm/table1/ml-1m-ctr/FM/published/seed 0").Tags()["images"] == ["test/reliability"]
    assert opened(logdir, "csdm/table1/ml-1m-ctr/curves").Tags()["images"] == ["reliability/test"]


def test_a_failed_trial_shows_its_error(store: Store, logdir: Path) -> None:
    nan = {"pretrain/loss": Curve(steps=[1, 2], values=[0.5, float("nan")], seconds=[0.1, 0.2])}
    trial = store.write(
        result(spec(0), {}, status="failed", error="loss is nan in epoch 3", curves=nan, environment=None), {}
    )
    write_trials(TABLE, [TrialEntry(trial, "ml-1m", "CSDM", "tuned")], store, logdir)
    shown = opened(logdir, "csdm/table1/ml-1m/CSDM/tuned/seed 0")
    assert shown_text(shown, "error") == "    loss is nan in epoch 3"
    assert np.isnan(shown.Scalars("pretrain/loss")[1].value)
    assert not [tag for tag in shown.Tags()["scalars"] if tag.startswith("final/")]


def test_what_is_current_is_not_written_again(store: Store, logdir: Path) -> None:
    entries = [repeat(store, 0, curves=True), repeat(store, 1), search_trial(store, 0, 0.8)]
    assert write_trials(TABLE, entries, store, logdir) == 4
    before = files(logdir)
    assert write_trials(TABLE, entries, store, logdir) == 0
    assert files(logdir) == before
    again = TrialEntry(entries[1].result.model_copy(update={"wall_seconds": 99.0}), "ml-1m", "CSDM", "published")
    assert write_trials(TABLE, [entries[0], again, entries[2]], store, logdir) == 1
    after = files(logdir)
    assert len(after) == len(before)
    assert len(after.keys() & before.keys()) == 3
    assert opened(logdir, "csdm/table1/ml-1m/CSDM/published/seed 1").Scalars("time/wall_seconds")[0].value == 99.0


def test_an_interrupted_write_is_made_good(store: Store, logdir: Path) -> None:
    entry = repeat(store, 0)
    write_trials(TABLE, [entry], store, logdir)
    (path,) = (logdir / "csdm/table1/ml-1m/CSDM/published/seed 0").iterdir()
    path.with_name("events.out.tfevents.00000000000001.older").write_bytes(b"cut off")
    assert write_trials(TABLE, [entry], store, logdir) == 1
    assert len(list(path.parent.iterdir())) == 1


def test_equal_records_give_equal_bytes(store: Store, tmp_path: Path) -> None:
    entry = repeat(store, 0, curves=True)
    contents = []
    for name in ("one", "other"):
        write_trials(TABLE, [entry], store, tmp_path / name)
        contents.append(
            {path.parent.name: path.read_bytes() for path in (tmp_path / name).glob("**/events.out.tfevents.*")}
        )
    assert contents[0] == contents[1]
    assert set(contents[0]) == {"seed 0", "curves"}


def test_runs_whose_trial_is_gone_are_removed(store: Store, logdir: Path) -> None:
    trials = [search_trial(store, number, 0.8, rho=number / 10) for number in range(3)]
    write_trials(TABLE, [*trials, repeat(store, 0), repeat(store, 0, "DeepFM")], store, logdir)
    note = logdir / "csdm/table1/ml-1m/CSDM/search/02/note.txt"
    note.write_text("mine", encoding="utf-8")
    write_trials(TABLE, [trials[0], repeat(store, 0)], store, logdir)
    kept = {run.removeprefix("csdm/table1/ml-1m/") for run in runs(logdir)}
    assert kept == {"CSDM/search/00", "CSDM/published/seed 0", "DeepFM/published/seed 0"}
    assert not note.parent.with_name("01").exists()
    assert note.read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("name", ["Wide/Deep", "..", ".", "a\\b", "100%", "PreferDiff – ρ=0.5"])
def test_a_row_is_one_folder_whatever_its_name(store: Store, logdir: Path, name: str) -> None:
    folder = run_folder(logdir, TABLE, "ml-1m", name)
    assert folder.parent == logdir / "csdm/table1/ml-1m"
    assert folder.resolve().parent == folder.parent.resolve()
    assert "/" not in folder.name


def test_different_rows_are_different_folders(logdir: Path) -> None:
    assert run_folder(logdir, TABLE, "a/b") != run_folder(logdir, TABLE, "a%2Fb")


def test_the_hparams_page_has_a_session_for_each_search_trial(store: Store, logdir: Path) -> None:
    sampled: dict[str, Value] = {
        "rho": 0.25,
        "use_pca": True,
        "size": 8,
        "schedule": "linear",
        "layers": (64, 32),
        "clip": None,
    }
    good = search_trial(store, 0, 0.8, rho=0.25)
    good = TrialEntry(good.result, good.dataset, good.row, good.selection, good.number, sampled)
    bad = store.write(result(spec(2024, "search", rho=0.75), {}, status="failed", error="loss is nan"), {})
    write_trials(TABLE, [good, TrialEntry(bad, "ml-1m", "CSDM", "tuned", 1)], store, logdir)
    start_info, status = session(logdir, "csdm/table1/ml-1m/CSDM/search/00")
    hparams = start_info.hparams
    assert hparams["study"].string_value == "csdm/table1/ml-1m/CSDM"
    assert hparams["rho"].number_value == 0.25
    assert hparams["use_pca"].WhichOneof("kind") == "bool_value"
    assert hparams["size"].number_value == 8
    assert hparams["schedule"].string_value == "linear"
    assert hparams["layers"].string_value == "(64, 32)"
    assert hparams["clip"].string_value == "none"
    assert status == STATUS_SUCCESS
    assert session(logdir, "csdm/table1/ml-1m/CSDM/search/01")[1] == STATUS_FAILURE


def test_all_studies_share_one_declaration_of_columns(store: Store, logdir: Path) -> None:
    write_trials(
        TABLE, [search_trial(store, n, 0.8, rho=rho, kind="a") for n, rho in enumerate((0.5, 0.25))], store, logdir
    )
    other = store.write(
        result(spec(1, "search", "next_item", size=64, kind=3), {"validation/ndcg@5": 0.1, "validation/recall@5": 0.2}),
        {},
    )
    write_trials("preferdiff/table1", [TrialEntry(other, "beauty", "SASRec", "tuned", 0)], store, logdir)
    assert write_studies(logdir)
    assert not write_studies(logdir)
    content = opened(logdir, "studies").summary_metadata["_hparams_/experiment"].plugin_data.content
    experiment = metadata.parse_experiment_plugin_data(content)
    columns = {info.name: info for info in experiment.hparam_infos}
    assert list(columns) == ["study", "kind", "rho", "size"]
    assert (columns["rho"].type, columns["rho"].differs) == (DATA_TYPE_FLOAT64, True)
    assert (columns["rho"].domain_interval.min_value, columns["rho"].domain_interval.max_value) == (0.25, 0.5)
    assert columns["kind"].type == DATA_TYPE_STRING  # a number in one study, a word in the other
    studies = [value.string_value for value in columns["study"].domain_discrete.values]
    assert studies == ["csdm/table1/ml-1m/CSDM", "preferdiff/table1/beauty/SASRec"]
    assert [info.name.tag for info in experiment.metric_infos] == [
        "final/validation/auc",
        "final/validation/recall@5",
        "final/validation/cold/auc",
        "final/validation/ndcg@5",
    ]


def test_without_search_trials_no_columns_are_declared(store: Store, logdir: Path) -> None:
    write_trials(TABLE, [repeat(store, 0)], store, logdir)
    assert not write_studies(logdir)
    assert not (logdir / "studies").exists()


def test_the_summary_has_the_table_and_its_seeds(logdir: Path) -> None:
    table_spec = TableSpec.model_validate(
        {
            "title": "Table 1",
            "paper": "CSDM",
            "kind": "cells",
            "task": "cold_start",
            "datasets": ["ml-1m", "taobao"],
            "metrics": ["cold/auc"],
            "seeds": [0, 1, 2],
            "rows": [{"name": "CSDM", "method": "csdm"}],
        }
    )
    measured = [
        Measured("ml-1m", "CSDM", "published", seed, f"{seed}", "finished", metrics={"test/cold/auc": 0.7 + seed / 100})
        for seed in range(3)
    ]
    table = build_table(table_spec, {}, measured)
    assert write_summary(TABLE, table, "| method | AUC |\n|---|---|\n| CSDM | 0.71 |", logdir)
    assert not write_summary(TABLE, table, "| method | AUC |\n|---|---|\n| CSDM | 0.71 |", logdir)
    shown = opened(logdir, "csdm/table1/summary")
    assert shown_text(shown, "table").startswith("| method | AUC |")
    assert shown.Tags()["images"] == ["seeds/ml-1m"]
    assert write_summary(TABLE, table, "| method | AUC |", logdir)
    assert write_summary(TABLE, build_table(table_spec, {}, measured[:2]), "| method | AUC |", logdir)
    assert len(files(logdir)) == 1


def test_nothing_of_the_table_is_shown_as_html(logdir: Path) -> None:
    row = r"| A \~ B | **0.8** ± 0.1<sup>12</sup> | <u>0.7</u> ± 0.1 | &lt;b> |"
    shown = viewable(row + "\n")
    assert shown.splitlines()[0] == "| A ~ B | **0.8** ± 0.1¹² | *0.7* ± 0.1 | &lt;b> |"
    assert shown.endswith("\n\n(What is underlined elsewhere is in italics here.)\n")
    assert viewable("| **0.8** |\n") == "| **0.8** |\n"
    html = markdown_to_safe_html("| a | b | c | d |\n|---|---|---|---|\n" + shown)
    assert "<td>A ~ B</td>" in html
    assert "<td><em>0.7</em> ± 0.1</td>" in html
    assert "<td>&lt;b&gt;</td>" in html


def test_a_folder_that_cannot_be_written_is_one_line(store: Store, tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("", encoding="utf-8")
    with pytest.raises(StoreError, match="event file cannot be written") as caught:
        write_trials(TABLE, [repeat(store, 0)], store, blocked)
    assert "\n" not in str(caught.value)


def session(logdir: Path, run: str) -> tuple[Any, int]:
    tags = opened(logdir, run).summary_metadata
    begin = metadata.parse_session_start_info_plugin_data(tags["_hparams_/session_start_info"].plugin_data.content)
    end = metadata.parse_session_end_info_plugin_data(tags["_hparams_/session_end_info"].plugin_data.content)
    return begin, end.status
