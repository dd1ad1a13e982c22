import csv
import io
import math

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

from harness.statistics import summarize
from harness.tables import build_table, to_csv, to_latex, to_markdown, to_terminal
from harness.tables.layout import metric_title, number, p_value, signed, value


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


def test_seeds_of_different_parameters_are_called_out():
    trials = [trial("DeepFM", 0, 0.7), trial("DeepFM", 1, 0.7, parameters='{"rho": 1}')]
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
    (none,) = [x for x in lines if (x["dataset"], x["row"], x["metric"]) == ("taobao", "Other", "cold/auc")]
    assert (none["published"], none["mean"], none["verdict"]) == ("0.71", "", "no data")
    assert "nan" not in to_csv(table)


def test_a_next_item_table_renders_everywhere():
    table = build_table(next_item_spec(), {}, next_item_trials())
    assert "4 users" in to_markdown(table)
    assert "4 users" in terminal(table)
    assert "Recall@5" in to_latex(table)
    assert "users" in to_csv(table)


def test_the_same_table_renders_to_the_same_text():
    assert to_markdown(cold_start_table()) == to_markdown(cold_start_table())


@pytest.mark.parametrize(
    ("metric", "title"),
    [
        ("warm_a/auc", "warm-a AUC"),
        ("cold/relaimpr", "cold RelaImpr"),
        ("recall@5", "Recall@5"),
        ("ndcg@10", "NDCG@10"),
        ("log_loss", "log loss"),
        ("hit_rate@3", "hit_rate@3"),
    ],
)
def test_metric_titles(metric, title):
    assert metric_title(metric) == title


def test_numbers():
    assert value("cold/auc", 0.73126) == "0.7313"
    assert value("cold/relaimpr", 5.618) == "5.62 %"
    assert value("cold/relaimpr", math.nan) == "–"
    assert signed("cold/auc", 0.0007) == "+0.0007"
    assert signed("cold/auc", -0.0007) == "-0.0007"
    assert signed("cold/auc", 0.00001) == "0.0000"
    assert signed("cold/relaimpr", 0.001) == "0.00 %"
    assert number(-0.00001, 4) == "0.0000"
    assert p_value(0.0004) == "< 0.001"
    assert p_value(2 / 1024) == "0.002"
    assert p_value(math.nan) == "–"
