import csv
import io
from dataclasses import replace

import pytest
from rich.console import Console
from table_example import (
    cold_start_published,
    cold_start_spec,
    cold_start_table,
    next_item_spec,
    next_item_trials,
    trial,
)

from harness.figures import plot, svg
from harness.statistics import summarize
from harness.tables import PublishedCell, build_table, grids, to_csv, to_latex, to_markdown, to_terminal


def terminal(table):
    console = Console(width=220, record=True, file=io.StringIO())
    console.print(to_terminal(table))
    return console.export_text()


def test_markdown_puts_paper_and_ours_one_above_the_other():
    lines = to_markdown(cold_start_table()).splitlines()
    assert "| DeepFM | paper | 0.7013 | 0.00 % |" in lines
    base = summarize([0.001 * seed for seed in range(10)])
    ours = summarize([0.0011 * seed for seed in range(9)])
    assert f"|  | ours, tuned | <u>0.7000</u> ± {base.half_width:.4f} ✓ | <u>0.00 %</u> |" in lines
    assert any(f"| ours, tuned<sup>2</sup> | **0.7499** ± {ours.half_width:.4f} ✗ | **25." in line for line in lines)
    assert "| Other | paper (not run) | <u>0.7100</u> | <u>4.35 %</u><sup>1</sup> |" in lines
    assert "| DeepFM | paper (no data) | 0.7013 | 0.00 % |" in lines


def test_markdown_notes_say_what_must_stand_beside_a_number():
    text = to_markdown(cold_start_table())
    for part in (
        "<sup>1</sup> suspect",
        "<sup>2</sup> half the size",
        "Data: 0123456789ab.",
        "Data: assembled from copies",
        r"Ours(DeepFM), tuned, seed 9 failed: TrialError: loss is nan \| step\_3",
        "Not run: Other.",
        "No data: all rows.",
        "20 trials, 18 distinct, space feed",
        "| 9 of 10 |",
        "### Paired differences to Ours(DeepFM)",
        "| cold AUC | DeepFM | ours, tuned | 9 seeds | -0.0504 |",
    ):
        assert part in text


def test_statistics_stand_under_their_names() -> None:
    """Measured 0.70, 0.71, 0.72 beside a printed 0.74, and rows that differ by 0.01, 0.02, 0.02."""
    aucs = {"DeepFM": (0.70, 0.71, 0.72), "Other": (0.69, 0.69, 0.70), "Ours(DeepFM)": (0.71, 0.73, 0.74)}
    trials = [trial(row, seed, auc) for row, values in aucs.items() for seed, auc in enumerate(values)]
    spec = cold_start_spec(datasets=["ml-1m"], metrics=["cold/auc"], seeds=[0, 1, 2])
    table = build_table(spec, {("ml-1m", "DeepFM", "cold/auc"): PublishedCell(0.74)}, trials)
    (differences,) = grids.differences(table, "ml-1m")
    compared = dict(zip(differences.header, differences.rows[0], strict=True))
    # t(0.975, 2) = 4.3027; the differences' sd is 0.00577. Of 8 arrangements two reach the sum; Holm doubles.
    assert (compared["row"], compared["difference"], compared["effect"]) == ("DeepFM", "-0.0167", "-2.89")
    assert compared["95 % interval"] == "-0.0310 … -0.0023"
    assert (compared["p"], compared["p (Holm)"]) == ("0.250", "0.500")
    grid = grids.statistics(table, "ml-1m")
    measured = dict(zip(grid.header, grid.rows[0], strict=True))
    # Half-widths: of seeds 4.3027 * 0.01 / √3 = 0.0248, of the test sample 1.96 * 0.002 = 0.0039, of both 0.0251.
    expected = {"n": "3", "mean": "0.7100", "sd": "0.0100", "min": "0.7000", "max": "0.7200", "printed": "0.7400"}
    expected |= {"95 % of seeds": "0.6852 … 0.7348", "95 % of both": "0.6849 … 0.7351", "difference": "-0.0300"}
    expected |= {"error of test sample": "0.0020", "verdict": "not reproduced"}
    assert expected.items() <= measured.items()


def test_every_line_of_a_markdown_table_has_as_many_cells_as_its_header():
    width = None
    for line in to_markdown(cold_start_table()).splitlines():
        cells = line.replace(r"\|", "").count("|") if line.startswith("|") else None
        assert cells is None or width is None or cells == width
        width = cells


def test_published_parameters_are_called_so():
    trials = [trial("DeepFM", seed, 0.7, "published") for seed in range(2)]
    text = to_markdown(build_table(cold_start_spec(), {}, trials))
    assert "| DeepFM | rho=0.001 | published parameters | 2 of 10 |" in text
    assert "ours, published parameters" in text


def test_search_trials_that_failed_are_told():
    trials = [trial("DeepFM", seed, 0.7, search_failed=15) for seed in range(2)]
    text = to_markdown(build_table(cold_start_spec(), {}, trials))
    assert "| DeepFM | rho=0.001 | 20 trials, 18 distinct, 15 failed, space feed | 2 of 10 |" in text


@pytest.mark.parametrize("other", [{"parameters": '{"rho": 1}'}, {"setup": "version 2"}, {"data_hash": "1" * 16}])
def test_seeds_that_differ_in_more_than_the_seed_are_called_out(other: dict[str, str]) -> None:
    trials = [trial("DeepFM", 0, 0.7, setup="version 1"), trial("DeepFM", 1, 0.7, **{"setup": "version 1"} | other)]
    text = to_markdown(build_table(cold_start_spec(), {}, trials))
    assert "DeepFM, tuned: its seeds differ in parameters, versions or data; run it again." in text


def test_an_unstable_cell_is_marked():
    trials = [trial("DeepFM", 0, 0.65), trial("DeepFM", 1, 0.75)]
    text = to_markdown(build_table(cold_start_spec(), cold_start_published(), trials))
    assert r"✓\~" in text


def test_a_row_whose_seeds_all_failed_shows_it():
    trials = [trial("DeepFM", 0, 0, status="failed", metrics={}, error="killed")]
    assert "| DeepFM | ours, tuned | failed | failed |" in to_markdown(
        build_table(cold_start_spec(seeds=[0]), {}, trials)
    )


def test_a_row_that_lacks_seeds_says_how_many_it_has():
    """A seed that failed was run, and is told apart."""
    trials = [trial("DeepFM", 0, 0.7), trial("DeepFM", 1, 0, status="failed", metrics={}, error="killed")]
    assert "| DeepFM | ours, tuned, 2 of 10 seeds | " in to_markdown(build_table(cold_start_spec(), {}, trials))
    assert "of 2 seeds" not in to_markdown(build_table(cold_start_spec(seeds=[0, 1]), {}, trials))
    assert "seeds |" not in to_markdown(cold_start_table()).split("### ")[0]


def test_the_terminal_shows_the_same_numbers():
    text = terminal(cold_start_table())
    for part in ("0.7013", "0.7499", "✗", "ours, tuned [2]", "[1] suspect", "seed 9 failed", "9 seeds", "18 distinct"):
        assert part in text


def test_text_in_brackets_is_not_taken_for_markup():
    trials = [trial("DeepFM", 0, 0, status="failed", metrics={}, error="IndexError: [bold] is out of range")]
    assert "IndexError: [bold] is out of range" in terminal(build_table(cold_start_spec(), {}, trials))


def test_latex_is_escaped_and_balanced():
    text = to_latex(cold_start_table())
    assert r"\textbf{0.7499}" in text
    assert r"\underline{0.7000} $\pm$" in text
    assert r"Table 1: 100 \% of it" in text
    assert r"loss is nan | step\_3" in text
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 2
    assert text.count("{") == text.count("}")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert {line.count("&") for line in rows} == {3}


def test_csv_has_every_statistic_at_full_precision():
    table = cold_start_table()
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    assert len(lines) == 2 * 3 * 2
    (ours,) = [x for x in lines if (x["dataset"], x["row"], x["metric"]) == ("ml-1m", "Ours(DeepFM)", "cold/auc")]
    measurement = table.cell("ml-1m", "Ours(DeepFM)", "cold/auc").measured["tuned"]
    assert float(ours["mean"]) == measurement.summary.mean
    assert float(ours["sd"]) == measurement.summary.deviation
    assert float(ours["combined_low"]) == measurement.agreement.low
    assert (ours["n"], ours["failed"], ours["selection"]) == ("9", "1", "tuned")
    assert (ours["verdict"], ours["unstable"], ours["place"]) == ("not reproduced", "no", "best")
    (base,) = [x for x in lines if (x["dataset"], x["row"], x["metric"]) == ("ml-1m", "DeepFM", "cold/auc")]
    assert (base["pairs"], base["paired_n"], float(base["p_holm"])) == ("seeds", "9", 2 / 512)
    (comparison,) = table.comparisons
    paired = comparison.difference
    names = ("paired_difference", "paired_low", "paired_high", "p_value", "effect")
    assert [float(base[name]) for name in names] == [
        paired.mean,
        paired.low,
        paired.high,
        paired.p_value,
        paired.effect,
    ]
    of_base = table.cell("ml-1m", "DeepFM", "cold/auc").measured["tuned"]
    names = ("low", "high", "min", "max", "sampling_error", "difference", "combined_error", "combined_high")
    summary, judged = of_base.summary, of_base.agreement
    expected = [summary.low, summary.high, summary.minimum, summary.maximum, of_base.sampling_error]
    assert [float(base[name]) for name in names] == [*expected, judged.difference, judged.error, judged.high]
    assert (base["published"], base["published_place"], ours["published_place"]) == ("0.7013", "", "best")
    (none,) = [x for x in lines if (x["dataset"], x["row"], x["metric"]) == ("taobao", "Other", "cold/auc")]
    assert (none["published"], none["mean"], none["verdict"]) == ("0.71", "", "no data")
    assert "nan" not in to_csv(table)


def test_a_next_item_table_renders_everywhere():
    table = build_table(next_item_spec(), {}, next_item_trials())
    assert "4 users" in to_markdown(table)
    assert "4 users" in terminal(table)
    assert "Recall@5" in to_latex(table)
    assert "users" in to_csv(table)


def test_a_comparison_of_one_seed_says_so():
    trials = [trial("DeepFM", 0, 0.7), trial("Ours(DeepFM)", 0, 0.72)]
    text = to_markdown(build_table(cold_start_spec(seeds=[0], metrics=["cold/auc"]), {}, trials))
    assert "| cold AUC | DeepFM | ours, tuned | 1 seed | -0.0200 |" in text


def test_times_of_several_versions_of_the_program_are_told():
    codes = (("DeepFM", 0, "aaaaaaaa"), ("Ours(DeepFM)", 0, "bbbbbbbb"), ("Ours(DeepFM)", 1, "aaaaaaaa"))
    timed = [trial(row, seed, 0.7, code_hash=code, environment="here") for row, seed, code in codes]
    told = "Timed with several versions of the program (DeepFM aaaaaa, Ours(DeepFM) aaaaaa and bbbbbb); a run"
    assert told in to_markdown(build_table(cold_start_spec(), {}, timed))
    assert "Timed with" not in to_markdown(build_table(cold_start_spec(), {}, [timed[0], timed[2]]))
    untimed = [trial(row, seed, 0.7, code_hash=code) for row, seed, code in codes]
    assert "Timed with" not in to_markdown(build_table(cold_start_spec(), {}, untimed))


SECONDS = {"metrics": ["recall@5", "inference_s"]}
PRINTED = {("beauty", "A", "inference_s"): PublishedCell(320.98, "on one GPU")}


def timed(trials, seconds):
    """Give the trials of these rows and seeds their seconds, as a run keeps them; leave others as older ones are."""
    return [
        replace(one, metrics=one.metrics | {"test/inference_s": seconds[one.row, one.seed]}, environment="here")
        if (one.row, one.seed) in seconds
        else one
        for one in trials
    ]


def test_seconds_stand_beside_what_is_printed_without_a_verdict():
    seconds = {("A", 0): 2.0, ("A", 1): 4.0, ("B", 0): 1.0, ("B", 1): 1.0}
    table = build_table(next_item_spec(**SECONDS), PRINTED, timed(next_item_trials(), seconds))
    text = to_markdown(table)
    assert "| A | paper | – | 320.98<sup>1</sup> |" in text
    # t(0.975, 1) = 12.706 times the standard error of 2 and 4, which is 1.
    assert "| <u>3.00</u> ± 12.71 |" in text
    assert "| **1.00** |" in text
    assert "- <sup>1</sup> on one GPU\n" in text
    assert "- Timed on: here.\n" in text
    assert "| seconds of inference | A | ours, tuned | 2 seeds | +2.00 |" in text
    assert table.cell("beauty", "A", "inference_s").measured["tuned"].agreement is None


@pytest.mark.parametrize(("seconds", "ours"), [({}, "–"), ({("A", 1): 1.5}, "1.50")])
def test_trials_that_kept_no_seconds_leave_the_cell_empty(seconds, ours):
    table = build_table(next_item_spec(**SECONDS), PRINTED, timed(next_item_trials(), seconds))
    text = to_markdown(table)
    of_a, of_b = (line for line in text.split("###")[0].splitlines() if "ours, tuned" in line)
    assert of_a.endswith(f" | {ours} |")
    assert of_b.endswith(" | – |")
    assert ("Timed on: here." in text) == bool(seconds)
    assert "seconds of inference | A | ours" not in text  # nothing to compare with
    assert ("| A | seconds of inference | ours, tuned | 1 | 0 | 1.50 |" in text) == bool(seconds)
    assert "| B | seconds of inference |" not in text
    for shown in (terminal(table), to_latex(table), to_csv(table)):
        assert "nan" not in shown
    svg(plot(table))


def test_only_timed_rows_are_told_to_be_of_several_versions():
    trials = timed(next_item_trials(), {("A", 0): 1.0, ("A", 1): 1.0})
    codes = [replace(one, code_hash=str(number) * 8) for number, one in enumerate(trials)]
    text = to_markdown(build_table(next_item_spec(**SECONDS), {}, codes))
    assert "Timed with several versions of the program (A 000000 and 111111); a run" in text


def test_the_same_table_renders_to_the_same_text():
    assert to_markdown(cold_start_table()) == to_markdown(cold_start_table())
