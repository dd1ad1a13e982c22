import pytest
from matplotlib.figure import Figure
from table_example import cold_start_spec, cold_start_table, next_item_spec, next_item_trials

from harness.figures import plot_seeds
from harness.tables import build_table


def points(panel):
    return sorted(float(x) for collection in panel.collections for x in collection.get_offsets()[:, 0])


def test_every_seed_and_the_printed_value_are_drawn(tmp_path):
    table = cold_start_table()
    figure = plot_seeds(table)
    (panel,) = figure.axes  # one dataset has measurements, and RelaImpr is not drawn
    cells = [table.cell("ml-1m", row, "cold/auc") for row in ("DeepFM", "Ours(DeepFM)")]
    assert points(panel) == pytest.approx(sorted(v for c in cells for v in c.measured["tuned"].values.values()))
    printed = [line.get_xdata()[0] for line in panel.lines if line.get_marker() == "D"]
    assert printed == [0.7013, 0.7343]
    intervals = [tuple(line.get_xdata()) for line in panel.lines if len(line.get_xdata()) == 2]
    assert intervals == [(c.measured["tuned"].summary.low, c.measured["tuned"].summary.high) for c in cells]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["DeepFM", "Ours(DeepFM)"]
    for ending in ("png", "svg"):
        figure.savefig(tmp_path / f"seeds.{ending}")
        assert (tmp_path / f"seeds.{ending}").stat().st_size > 1_000


def test_one_panel_a_metric():
    figure = plot_seeds(build_table(next_item_spec(), {}, next_item_trials()))
    assert [panel.get_title() for panel in figure.axes] == ["Recall@5", "NDCG@5"]


def test_nothing_measured_is_said():
    figure = plot_seeds(build_table(cold_start_spec(), {}, []))
    assert isinstance(figure, Figure)
    assert "nothing measured yet" in figure.texts[0].get_text()
    assert figure.axes == []


def test_only_the_datasets_asked_for():
    assert plot_seeds(cold_start_table(), ["taobao"]).axes == []
