"""Tables of what next-item trials log while they train, and of the embeddings that they learn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from harness import item_embeddings
from harness.errors import DataError, InputError
from harness.figures import plot, svg
from harness.item_embeddings import covariance, t_sne
from harness.measured import Measured, read_measured
from harness.projections import FILE, read_projections
from harness.record import Curve, Environment, TrialResult
from harness.running import open_table, run_table
from harness.specs import TrialSpec
from harness.store import Store
from harness.table_specs import find_table
from harness.tablerun import Options, _where
from harness.tables import to_markdown
from harness.training_curve import TrainingCurve, inference_time, training_curve, training_metrics
from tests.harness.small_table import SEQUENCES, TABLE, SmallTable, small_next_item

RECALL = "validation/recall@5"
POPULAR = "{name: popular, title: P, class: 'trainables.next_item.popularity:Popularity', version: 1}"


def result(curves: dict[str, Curve], **parameters: int) -> TrialResult:
    spec = TrialSpec(
        task="next_item",
        dataset="d",
        dataset_hash="0",
        method="m",
        parameters=parameters,
        versions={},
        seed=0,
        threads=1,
        purpose="repeat",
    )
    return TrialResult(id=spec.id, spec=spec, status="finished", curves=curves)


def test_a_time_says_which_processor_and_gpu_it_was_taken_on() -> None:
    where = Environment(python="3", torch="2.13.0", numpy="2", platform="p", processor="AVX2", threads=2)
    on_cpu = result({}).model_copy(update={"environment": where})
    on_gpu = on_cpu.model_copy(update={"environment": where.model_copy(update={"gpu": "Tesla V100"})})
    assert _where(on_cpu) == "AVX2, 2 threads, torch 2.13.0"
    assert _where(on_gpu) == "AVX2, Tesla V100, 2 threads, torch 2.13.0"


def test_times_and_the_best_epoch_are_read_from_the_curves() -> None:
    # Three epochs of 10, 12 and 14 s, each validated for 1, 2 and 3 s; before them 5 s to build the model.
    losses = Curve(steps=[4, 8, 12], values=[3.0, 2.0, 1.0], seconds=[15.0, 28.0, 44.0])
    recall = Curve(steps=[4, 8, 12], values=[0.1, 0.3, 0.3], seconds=[16.0, 30.0, 47.0])
    trained = result({"train/loss": losses, RECALL: recall})
    assert training_curve(trained, RECALL) == TrainingCurve((1, 2, 3), (16.0, 30.0, 47.0), (0.1, 0.3, 0.3))
    assert training_metrics(trained, RECALL) == {
        "test/best_validation": 0.3,
        "test/best_epoch": 2.0,
        "test/best_s": 30.0,
        "test/epoch_s": 13.0,
        "test/training_s": 47.0,
        "test/inference_s": 2.0,
    }


def test_epochs_without_a_validation_are_counted() -> None:
    losses = Curve(steps=[4, 8, 12, 16], values=[1.0] * 4, seconds=[10.0, 20.0, 31.0, 41.0])
    recall = Curve(steps=[8, 16], values=[0.2, 0.1], seconds=[21.0, 42.0])
    trained = result({"train/loss": losses, RECALL: recall}, validate_every=2)
    curve = training_curve(trained, RECALL)
    assert curve is not None
    assert curve.epochs == (2, 4)
    metrics = training_metrics(trained, RECALL)
    assert (metrics["test/epoch_s"], metrics["test/best_epoch"]) == (10.0, 2.0)


def test_losses_within_an_epoch_tell_no_epoch_s_time() -> None:
    losses = Curve(steps=[50, 80, 130, 160], values=[1.0] * 4, seconds=[5.0, 8.0, 14.0, 17.0])
    auc = Curve(steps=[80, 160], values=[0.7, 0.8], seconds=[9.0, 18.0])
    trained = result({"train/loss": losses, "validation/auc": auc})
    assert training_curve(trained, "validation/auc") == TrainingCurve((1, 2), (9.0, 18.0), (0.7, 0.8))
    assert training_metrics(trained, "validation/auc") == {
        "test/best_validation": 0.8,
        "test/best_epoch": 2.0,
        "test/best_s": 18.0,
    }


def test_a_trial_that_only_evaluates_has_no_curve() -> None:
    assert training_curve(result({}), RECALL) is None
    assert training_metrics(result({}), RECALL) == {}


def test_the_time_of_ranking_the_test_split_is_read_from_its_curve() -> None:
    ranked = Curve(steps=[0], values=[1.25], seconds=[60.0])
    assert inference_time(result({"test/inference_s": ranked})) == {"test/inference_s": 1.25}
    assert inference_time(result({})) == {}  # of a trial from before it was logged


def test_the_covariance_is_of_the_first_dimensions() -> None:
    embedding_ID = np.random.default_rng(0).standard_normal((300, 70)).astype(np.float32)
    found_KK = covariance(embedding_ID)
    centred = embedding_ID[:, :64] - embedding_ID[:, :64].mean(0)
    assert found_KK == pytest.approx(centred.T @ centred / 299, abs=1e-5)


def test_t_sne_keeps_clusters_apart_and_is_repeatable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(item_embeddings, "SHOWN_ITEMS", 60)
    random = np.random.default_rng(0)
    embedding_ID = (random.standard_normal((80, 8)) + np.repeat([[0.0], [40.0]], 40, axis=0)).astype(np.float32)
    point_N2 = t_sne(embedding_ID)
    assert point_N2.shape == (60, 2)
    assert np.array_equal(point_N2, t_sne(embedding_ID))
    shown = np.sort(np.random.default_rng(0).choice(80, 60, replace=False)) >= 40
    distance_NN = np.linalg.norm(point_N2[:, None] - point_N2[None], axis=-1) + np.diag([np.inf] * 60)
    assert np.array_equal(shown[distance_NN.argmin(1)], shown)


@pytest.fixture
def small(tmp_path: Path) -> SmallTable:
    return small_next_item(tmp_path)


def run(small: SmallTable, **keys: Any) -> list[Measured]:
    small.write_table(seeds=[0, 1], **keys)
    asked = Options(TABLE, published=True)
    assert run_table(asked, small.places, lambda line: None, address=None, cpus=None, serial=True)[1] == 0
    return read_measured(small.places.results / TABLE / "measured.parquet")


def test_a_convergence_keeps_the_validation_curves(small: SmallTable) -> None:
    records = run(small, kind="convergence", metrics=["recall@5", "best_epoch", "best_s"])
    for record in records:
        assert record.curve is not None
        assert record.curve.epochs == (1, 2)
        assert record.metrics["test/best_epoch"] == 1 + int(np.argmax(record.curve.values))
    folder = small.places.results / TABLE
    assert {"convergence.png", "convergence.svg"} <= {path.name for path in folder.iterdir()}
    table = open_table(TABLE, small.places)
    assert (folder / "convergence.svg").read_text() == svg(plot(table))
    epochs, minutes = plot(table).axes
    drawn = [np.asarray(line.get_xdata()).tolist() for line in epochs.lines]
    assert [xs for xs in drawn if len(xs) == 2] == [[1, 2]] * 2
    assert (epochs.get_xlabel(), minutes.get_xlabel()) == ("epoch", "minutes")
    assert "| best epoch | seconds to it |" in to_markdown(table)


def test_a_timing_of_next_item_trials_is_drawn_over_its_last_metric(small: SmallTable) -> None:
    keys = {"kind": "timing", "search": {}, "figure": "scatter", "threads": 2}
    records = run(small, **keys, metrics=["recall@5", "training_s"])
    assert all(record.curve is None and "2 threads" in record.environment for record in records)
    table = open_table(TABLE, small.places)
    (panel,) = plot(table).axes
    assert (panel.get_xlabel(), panel.get_xscale()) == ("seconds of training", "log")
    assert (small.places.results / TABLE / "scatter.svg").read_text() == svg(plot(table))
    assert "Times in seconds" in to_markdown(table)


def test_cells_show_the_seconds_of_inference_and_where_they_were_taken(small: SmallTable) -> None:
    records = run(small, metrics=["recall@5", "inference_s"])
    store = Store(small.places.store)
    for record in records:
        kept = store.record(record.trial_id)
        assert kept is not None
        assert "test/inference_s" not in kept.metrics  # which are the same whenever the trial runs again
        assert [record.metrics["test/inference_s"]] == kept.curves["test/inference_s"].values
        assert 0 < record.metrics["test/inference_s"] < record.wall_seconds
        assert "1 thread" in record.environment
    text = to_markdown(open_table(TABLE, small.places))
    assert "| method |  | Recall@5 | seconds of inference |" in text
    assert "- Timed on: " in text
    assert "trials that may run side by side" in text


def test_a_table_that_asks_for_no_seconds_keeps_none(small: SmallTable) -> None:
    for record in run(small, metrics=["recall@5"]):
        assert "test/inference_s" not in record.metrics
        assert record.environment == ""


def test_a_projection_keeps_what_its_picture_shows(small: SmallTable) -> None:
    records = run(small, kind="projection", figure="t_sne")
    path = small.places.results / TABLE / FILE
    (shown,) = read_projections(path)
    assert shown.trial_id == records[0].trial_id
    assert (shown.place, shown.values.shape) == ((SEQUENCES, "Last", "published"), (21, 2))
    table = open_table(TABLE, small.places)
    assert (path.parent / "t_sne.svg").read_text() == svg(plot(table))
    before = path.read_bytes()
    run(small, kind="projection", figure="t_sne")
    assert path.read_bytes() == before


def test_a_projection_file_of_other_columns_is_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"dataset": ["d"]}), tmp_path / FILE)
    with pytest.raises(DataError, match=r"projection\.parquet: lacks column 'row'; delete it and run the table again"):
        read_projections(tmp_path / FILE)


def test_a_row_that_learns_nothing_is_not_projected(small: SmallTable) -> None:
    (small.places.search_spaces / "popular.yaml").write_text(POPULAR)
    small.write_table(kind="projection", figure="t_sne", seeds=[0], rows=[{"name": "Popular", "method": "popular"}])
    with pytest.raises(InputError, match=r"rows\.Popular: its method learns nothing, .* nothing to project; remove it"):
        run_table(Options(TABLE), small.places, print, address=None, cpus=None, serial=True)
    assert Store(small.places.store).ids() == []


def test_a_covariance_is_drawn_square(small: SmallTable) -> None:
    run(small, kind="projection", figure="covariance")
    (shown,) = read_projections(small.places.results / TABLE / FILE)
    assert shown.values.shape == (4, 4)
    (panel,) = plot(open_table(TABLE, small.places)).axes
    assert panel.get_title().startswith("Last, published\ndiagonal")


def test_figures_fit_their_kind(small: SmallTable) -> None:
    small.write_table(kind="projection", figure="stages")
    with pytest.raises(InputError, match="figure: a table of kind projection is drawn as t_sne or covariance"):
        find_table(TABLE, small.places.results)
