import re

import pytest
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from table_example import (
    cold_start_published,
    cold_start_spec,
    cold_start_table,
    next_item_spec,
    next_item_trials,
    trial,
)

from harness.figures import figure_name, plot, plot_counts, plot_curve, plot_seeds, plot_stages, svg, write_figures
from harness.figures.style import titled, with_legend
from harness.measured import Measured
from harness.metrics.calibration import Reliability
from harness.table_specs import COUNTED, TableSpec
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


@pytest.mark.parametrize(("timed", "panels"), [(0, ["Recall@5"]), (1, ["Recall@5", "seconds of inference"])])
def test_seconds_have_a_panel_once_a_trial_kept_them(timed, panels):
    trials = next_item_trials()
    for one in trials[:timed]:
        one.metrics["test/inference_s"] = 2.0
    table = build_table(next_item_spec(metrics=["recall@5", "inference_s"]), {}, trials)
    figure = plot_seeds(table)
    assert [panel.get_title() for panel in figure.axes] == panels
    assert [panel.get_xscale() for panel in figure.axes] == ["linear", "log"][: len(panels)]


def test_nothing_measured_is_said():
    figure = plot_seeds(build_table(cold_start_spec(), {}, []))
    assert isinstance(figure, Figure)
    assert "nothing measured yet" in figure.texts[0].get_text()
    assert figure.axes == []


def test_only_the_datasets_asked_for():
    assert plot_seeds(cold_start_table(), ["taobao"]).axes == []


STAGES = ("cold", "warm_a", "warm_b", "warm_c")
STAGE_ROWS = [
    {"name": "Deep", "group": "Deep"},
    {"name": "Own(Deep)", "group": "Deep"},
    {"name": "Wide", "group": "Wide"},
    {"name": "Own(Wide)", "group": "Wide"},
    {"name": "Extra", "group": "Wide", "beyond": True},
]


def stages_table():
    metrics = [f"{stage}/auc" for stage in STAGES]
    spec = cold_start_spec(
        rows=STAGE_ROWS, reference=[], baseline=[], metrics=metrics, figure="stages", datasets=["ml-1m"]
    )
    trials = []
    for place, row in enumerate(spec.rows):
        for seed in range(3):
            aucs = {f"test/{stage}/auc": 0.7 + 0.01 * place + 0.02 * k + 0.001 * seed for k, stage in enumerate(STAGES)}
            trials.append(trial(row.name, seed, 0, metrics=aucs))
    return build_table(
        spec, {("ml-1m", "Own(Wide)", "cold/auc"): cold_start_published()["ml-1m", "Other", "cold/auc"]}, trials
    )


def test_stages_have_a_panel_a_group_and_a_line_a_method():
    figure = plot_stages(stages_table())
    deep, wide = figure.axes
    assert (deep.get_title(), wide.get_title()) == ("Deep", "Wide")
    assert [label.get_text() for label in deep.get_xticklabels()] == ["cold", "warm-a", "warm-b", "warm-c"]
    means = [list(container.lines[0].get_ydata()) for container in wide.containers]
    assert means == [pytest.approx([0.701 + 0.01 * p + 0.02 * k for k in range(4)]) for p in (2, 3)]  # none beyond
    (low, high) = wide.containers[0].lines[2][0].get_segments()[0][:, 1]
    half = stages_table().cell("ml-1m", "Wide", "cold/auc").measured["tuned"].summary.half_width
    assert (low, high) == pytest.approx((0.721 - half, 0.721 + half))
    assert [line.get_ydata()[0] for line in wide.lines if line.get_marker() == "D"] == [0.71]
    legend = {handle.get_label(): handle.get_color() for handle in figure.legends[0].legend_handles}
    assert list(legend) == ["backbone", "Own", "ours, tuned"]
    assert [container.lines[0].get_color() for container in deep.containers] == [legend["backbone"], legend["Own"]]


def rows_table():
    spec = cold_start_spec(
        datasets=["few", "many", "real"],
        metrics=["training_rows", "cold/auc", "optimum_auc"],
        baseline=[],
        figure="rows",
        rows=[{"name": "DeepFM"}, {"name": "Ours(DeepFM)"}],
        seeds=[0, 1],
    )
    given = {"few": (1000.0, 0.74), "many": (9000.0, 0.76)}
    trials = [trial("DeepFM", 0, 0.8, dataset="real")]
    for dataset, (rows, best) in given.items():
        for place, row in enumerate(spec.rows):
            for seed in (0, 1):
                metrics = {"cold/auc": 0.7 + rows / 1e6 + 0.01 * place + 0.002 * seed}
                metrics |= {"training_rows": rows, "optimum_auc": best}
                named = {f"test/{name}": value for name, value in metrics.items()}
                trials.append(trial(row.name, seed, 0, dataset=dataset, metrics=named, data_note="synthetic: x"))
    return build_table(spec, {}, trials)


def test_rows_are_an_axis_and_the_best_possible_auc_is_above():
    table = rows_table()
    (panel,) = plot(table).axes
    assert (panel.get_title(), panel.get_xscale(), panel.get_xlabel()) == ("cold AUC", "log", "training rows")
    lines = {tuple(c.lines[0].get_xdata()): list(c.lines[0].get_ydata()) for c in panel.containers if c.lines[0]}
    assert lines[1000.0, 9000.0] == pytest.approx([0.712, 0.72])  # the last one's
    (best,) = [line for line in panel.lines if line.get_linestyle() == ":"]
    assert (list(best.get_xdata()), list(best.get_ydata())) == ([1000, 9000], [0.74, 0.76])
    # From the lowest mean to the best possible AUC, whatever the intervals of two seeds.
    assert panel.get_ylim() == pytest.approx((0.702 - 0.25 * 0.058, 0.76 + 0.25 * 0.058))
    assert [label.get_text() for label in panel.get_xticklabels()] == ["1 k", "9 k"]
    labels = [handle.get_label() for handle in plot(table).legends[0].legend_handles]
    assert labels == ["DeepFM", "Ours(DeepFM)", "ours, tuned", "best possible AUC"]
    assert table.cell("few", "DeepFM", "optimum_auc").measured["tuned"].place == ""
    assert {comparison.metric for comparison in table.comparisons} == {"cold/auc"}


def curve_table(**changes):
    values = {
        "kind": "curve",
        "datasets": ["ml-1m"],
        "metrics": ["cold/auc", "warm_a/auc"],
        "reference": [],
        "baseline": [],
        "axis": {"parameter": "rho", "values": [0.01, 0.1, 1], "log": True},
        "rows": [{"name": "Base", "fixed": True}, {"name": "Own"}],
        "seeds": [0, 1],
    }
    spec = cold_start_spec(**(values | changes))
    trials = [
        trial(row.name, seed, 0, metrics={f"test/{s}/auc": 0.7 + 0.01 * place + 0.002 * seed for s in STAGES})
        for place, row in enumerate(spec.rows)
        for seed in (0, 1)
    ]
    return build_table(spec, {}, trials)


def test_a_curve_shows_means_intervals_seeds_and_level_rows():
    figure = plot_curve(curve_table())
    assert [panel.get_title() for panel in figure.axes] == ["cold AUC", "warm-a AUC"]
    panel = figure.axes[0]
    assert (panel.get_xscale(), panel.get_xlabel()) == ("log", "rho")
    (curve,) = panel.containers
    assert list(curve.lines[0].get_xdata()) == [0.01, 0.1, 1]
    assert list(curve.lines[0].get_ydata()) == pytest.approx([0.711, 0.721, 0.731])
    seeds = sorted(float(y) for c in panel.collections for y in c.get_offsets()[:, 1] if y > 0.5)
    assert seeds == pytest.approx([0.71, 0.712, 0.72, 0.722, 0.73, 0.732])
    assert [line.get_ydata()[0] for line in panel.lines if line.get_xdata()[0] == 0] == [pytest.approx(0.701)]


def test_a_curve_that_compares_with_a_line_draws_the_paired_differences_to_it():
    rows = [{"name": "Base"}, {"name": "Own"}, {"name": "Extra", "beyond": True}]
    figure = plot_curve(curve_table(reference="Base", rows=rows))
    assert [panel.get_title() for panel in figure.axes] == ["cold AUC", "warm-a AUC", "", ""]
    panel = figure.axes[2]
    assert panel.get_ylabel() == "difference to\nBase"
    (difference,) = panel.containers  # of Own alone
    assert list(difference.lines[0].get_xdata()) == [0.01, 0.1, 1]
    assert list(difference.lines[0].get_ydata()) == pytest.approx([0.03] * 3)
    low, high = panel.get_ylim()
    assert low < 0 < 0.03 < high < 0.05


@pytest.mark.parametrize("table", [cold_start_table, stages_table, curve_table])
def test_the_same_table_gives_the_same_files(table, tmp_path):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        write_figures(table(), tmp_path / folder)
    names = sorted(path.name for path in (tmp_path / "one").iterdir())
    assert names == [f"{figure_name(table().spec)}.{ending}" for ending in ("png", "svg")]
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_an_svg_carries_no_date_and_its_texts_as_texts():
    text = svg(plot(cold_start_table()))
    assert "<dc:date>" not in text
    assert "Ours(DeepFM)" in text
    assert "Table 1: 100 % of it" in text


def test_a_layout_that_differs_in_its_last_bits_gives_the_same_svg() -> None:
    def drawn(left: float) -> str:
        figure = Figure(figsize=(4, 2))
        axes = figure.add_axes((left, 0.2, 0.6, 0.6))
        axes.plot([0, 1, 2], [0, 2, 1], "o-")
        axes.imshow([[0.0, 1.0]])
        return svg(figure)

    text = drawn(0.2)
    assert text == drawn(0.2 + 2e-16)
    assert text != drawn(0.21)
    assert set(re.findall(r"(?:url\(|href=\")#([^\")]+)", text)) <= set(re.findall(r'id="([^"]+)"', text))


def test_titles_and_legends_stay_inside_the_figure() -> None:
    figure = Figure(figsize=(4, 2), layout="constrained")
    figure.subplots()
    handles = [Line2D([], [], label=f"a method with a long name, number {number}") for number in range(6)]
    titled(figure, "A title that is by far too long for a figure of four inches")
    with_legend(figure, handles)
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    assert figure._suptitle is not None
    for artist in (figure._suptitle, figure.legends[0]):
        box = artist.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= width
        assert 0 <= box.y0 < box.y1 <= height
    assert height > 2 * figure.dpi, "six lines of a legend need more room"


def test_reliability_is_drawn_for_every_seed_beside_the_diagonal():
    diagram = Reliability((0.1, 0.4, 0.9), (0.2, 0.4, 0.7), (5.0, 5.0, 5.0))
    spec = cold_start_spec(figure="reliability", reference=(), baseline=(), rows=[{"name": name} for name in "abcde"])
    trials = [trial(row, seed, 0.7, "published", reliability=diagram) for row in "abcde" for seed in range(2)]
    table = build_table(spec, {}, trials)
    assert figure_name(spec) == "reliability"
    panels = [panel for panel in plot(table).axes if panel.get_title()]
    assert [panel.get_title() for panel in panels] == list("abcde")
    drawn = [line.get_xydata().tolist() for line in panels[0].lines[1:]]
    assert drawn == [[[0.1, 0.2], [0.4, 0.4], [0.9, 0.7]]] * 2
    assert [bool(panel.get_xlabel()) for panel in panels] == [False, False, True, True, True]
    assert "nothing measured" in plot(build_table(spec, {}, [])).texts[0].get_text()


def test_counts_are_bars_that_show_and_averages_start_from_nothing():
    keys = {"kind": "statistics", "datasets": ["one", "other"], "metrics": ["users", "average_length"]}
    spec = TableSpec(title="Sizes", paper="none", **keys)
    sizes = {"one": (35_598.0, 8.32), "other": (901.0, 7.17)}
    counted = [
        Measured(name, COUNTED, "published", 0, name, "finished", metrics={"test/users": u, "test/average_length": a})
        for name, (u, a) in sizes.items()
    ]
    users, lengths = plot_counts(build_table(spec, {}, counted)).axes[:2]
    assert users.get_xscale() == "log" and lengths.get_xscale() == "linear"
    assert lengths.get_xlim()[0] == 0
    for panel, position in ((users, 0), (lengths, 1)):
        left, right = panel.get_xlim()
        assert [bar.get_width() for bar in panel.patches] == [size[position] for size in sizes.values()]
        assert all(left < bar.get_width() < right for bar in panel.patches)
