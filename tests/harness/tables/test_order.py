"""What a table says about the order of its rows, its groups, several references, and rows beyond the paper."""

import csv
import io
import re

import numpy as np
import pytest
from rich.console import Console
from table_example import BASE, STAGGER, cold_start_published, cold_start_spec, trial

from harness.tables import PublishedCell, build_table, to_csv, to_latex, to_markdown, to_terminal

ROWS = [
    {"name": "DeepFM", "method": "a"},
    {"name": "Third", "method": "b"},
    {"name": "Second", "method": "c"},
    {"name": "First", "method": "d"},
    {"name": "Extra", "method": "d", "beyond": True},
]
GAINS = {"DeepFM": 0.0, "Third": 0.01, "Second": 0.0101, "First": 0.03, "Extra": 0.9}
NOISE = [0.001 * (-1) ** seed for seed in range(10)]


def trials(gains=GAINS):
    return [
        trial(row, seed, BASE + STAGGER[seed] + gain + (NOISE[seed] if row == "Second" else 0))
        for row, gain in gains.items()
        for seed in range(10)
    ]


def spec(**changes):
    values = {"rows": ROWS, "reference": ["First", "Second"], "order": ["First", "Second"], "datasets": ["ml-1m"]}
    return cold_start_spec(**(values | changes))


def test_the_order_holds_fails_or_is_open_by_the_paired_interval():
    first, rest_of_first, rest_of_second = build_table(spec(), {}, trials()).order
    assert (first.row, first.other, first.over_rest, first.verdict) == ("First", "Second", False, "holds")
    assert first.difference.mean == pytest.approx(0.0199)
    # Of DeepFM and Third the latter comes closest; the row beyond the paper, better than all, is no rival.
    assert (rest_of_first.other, rest_of_first.over_rest, rest_of_first.verdict) == ("Third", True, "holds")
    assert rest_of_first.difference.mean == pytest.approx(0.02)
    assert (rest_of_second.row, rest_of_second.other, rest_of_second.verdict) == ("Second", "Third", "open")
    backwards = build_table(spec(), {}, trials(GAINS | {"First": -0.1})).order
    assert [claim.verdict for claim in backwards] == ["fails", "fails", "open"]


def test_an_untuned_row_is_compared_with_tuned_ones_by_its_published_parameters():
    rows = [row | {"untuned": row["name"] in ("First", "Second")} for row in ROWS]
    own = [one for one in trials() if one.row not in ("First", "Second")]
    untuned = [
        trial(row, seed, BASE + STAGGER[seed] + GAINS[row] + 0.001 * seed, selection="published")
        for row in ("First", "Second")
        for seed in range(10)
    ]
    table = build_table(spec(rows=rows), {}, own + untuned)
    claimed = {(claim.selection, claim.row, claim.other): claim for claim in table.order}
    # First and Second, both untuned, are compared once; of the rest only tuned values are known.
    assert set(claimed) == {
        ("published", "First", "Second"),
        ("tuned", "First", "Third"),
        ("tuned", "Second", "Third"),
    }
    assert claimed["tuned", "First", "Third"].difference.mean == pytest.approx(0.03 - 0.01 + 0.0045)
    compared = {(one.selection, one.row, one.reference) for one in table.comparisons}
    assert compared == {
        ("published", "Second", "First"),
        ("published", "First", "Second"),
        *(("tuned", row, other) for row in ("DeepFM", "Third", "Extra") for other in ("First", "Second")),
    }


def test_less_is_better_where_it_is():
    records = [
        trial(row, seed, 0, metrics={"test/cold/log_loss": value + STAGGER[seed]})
        for row, value in {"First": 0.4, "Second": 0.5}.items()
        for seed in range(10)
    ]
    (claim,) = build_table(spec(metrics=["cold/log_loss"]), {}, records).order
    assert (claim.difference.mean, claim.verdict) == (pytest.approx(0.1), "holds")
    assert claim.difference.low <= claim.difference.mean <= claim.difference.high


def test_the_effect_of_a_claim_has_the_sign_of_its_gain() -> None:
    losses = {"First": [0.4, 0.41, 0.42], "Second": [0.5, 0.53, 0.51]}  # gains 0.1, 0.12, 0.09
    records = [
        trial(row, seed, 0, metrics={"test/cold/log_loss": value})
        for row, values in losses.items()
        for seed, value in enumerate(values)
    ]
    (claim,) = build_table(spec(metrics=["cold/log_loss"]), {}, records).order
    gains = np.array([0.1, 0.12, 0.09])
    assert claim.difference.effect == pytest.approx(gains.mean() / gains.std(ddof=1))


def test_of_the_rest_the_one_whose_interval_reaches_lowest_is_closest() -> None:
    """DeepFM is further off than Third in the mean, and by far the less certain."""
    records = [one for one in trials() if one.row not in ("DeepFM", "Second")]
    records += [trial("DeepFM", seed, BASE + STAGGER[seed] - 0.01 + 100 * NOISE[seed]) for seed in range(10)]
    (claim,) = [claim for claim in build_table(spec(), {}, records).order if claim.over_rest]
    assert (claim.row, claim.other, claim.verdict) == ("First", "DeepFM", "open")
    assert claim.difference.mean == pytest.approx(0.04)


def test_one_seed_orders_nothing() -> None:
    assert build_table(spec(), {}, [one for one in trials() if one.seed == 0]).order == ()


def test_the_order_of_a_group_is_its_own():
    rows = [row | {"group": "deep" if row["name"] in ("First", "DeepFM") else "wide"} for row in ROWS]
    claims = build_table(spec(rows=rows), {}, trials()).order
    assert [(claim.row, claim.other) for claim in claims] == [("First", "DeepFM"), ("Second", "Third")]


def test_rows_beyond_the_paper_take_no_place_and_stand_apart():
    table = build_table(spec(), {}, trials())
    places = {row["name"]: table.cell("ml-1m", row["name"], "cold/auc").measured["tuned"].place for row in ROWS}
    assert places == {"DeepFM": "", "Third": "", "Second": "second", "First": "best", "Extra": ""}
    paper, beyond = to_markdown(table).split("### Beyond the paper")
    assert "| Extra |" not in paper
    assert "| Extra | ours, tuned |" in beyond.split("### Order")[0]
    assert r"\emph{Beyond the paper}" in to_latex(table)


def test_a_row_beyond_the_paper_that_was_not_run_is_not_called_the_papers():
    text = to_markdown(build_table(spec(), cold_start_published_of("First"), trials({"First": 0.1})))
    assert "| Extra | not run |" in text
    assert "| Second | paper (not run) |" in text


def cold_start_published_of(row):
    return {("ml-1m", row, "cold/auc"): cold_start_published()["ml-1m", "DeepFM", "cold/auc"]}


def test_each_reference_has_its_own_differences_and_its_own_family_of_p_values():
    table = build_table(spec(), {}, trials())
    by_reference = {
        reference: [c for c in table.comparisons if c.reference == reference] for reference in ("First", "Second")
    }
    assert {name: [c.row for c in found] for name, found in by_reference.items()} == {
        "First": ["DeepFM", "Third", "Second", "Extra"],
        "Second": ["DeepFM", "Third", "First", "Extra"],
    }
    assert {c.holm for c in by_reference["First"]} == {4 * 2 / 1024}
    lines = [x for x in csv.DictReader(io.StringIO(to_csv(table))) if x["row"] == "Third" and x["mean"]]
    assert [(x["metric"], x["paired_reference"]) for x in lines][:2] == [("cold/auc", "First"), ("cold/auc", "Second")]
    p_values = {x["paired_reference"]: (float(x["p_value"]), float(x["p_holm"])) for x in lines if x["p_value"]}
    assert p_values == {c.reference: (c.difference.p_value, c.holm) for c in table.comparisons if c.row == "Third"}
    assert p_values["First"] == (2 / 1024, 4 * 2 / 1024)
    text = to_markdown(table)
    assert "### Paired differences to First" in text
    assert "### Paired differences to Second" in text


def test_relaimpr_is_taken_against_the_groups_baseline():
    rows = [row | ({"group": "g"} if row["name"] in ("Third", "Second") else {}) for row in ROWS]
    table = build_table(spec(rows=rows, baseline=["DeepFM", "Third"]), {}, trials())

    def relative(row):
        return table.cell("ml-1m", row, "cold/relaimpr").measured["tuned"].values[0]

    assert relative("DeepFM") == relative("Third") == 0
    auc = {row: BASE + STAGGER[0] + gain for row, gain in GAINS.items()}
    assert relative("First") == pytest.approx(((auc["First"] - 0.5) / (auc["DeepFM"] - 0.5) - 1) * 100)
    second = auc["Second"] + NOISE[0]
    assert relative("Second") == pytest.approx(((second - 0.5) / (auc["Third"] - 0.5) - 1) * 100)


@pytest.mark.parametrize(("second", "claimed"), [(0.71, True), (0.72, False), (0.73, False), (None, True)])
def test_the_paper_claims_no_order_that_its_values_do_not_have(second: float | None, claimed: bool) -> None:
    printed = {"First": 0.72, "Second": second, "Third": 0.74}
    published = {
        ("ml-1m", row, "cold/auc"): PublishedCell(value) for row, value in printed.items() if value is not None
    }
    order = build_table(spec(metrics=["cold/auc"]), published, trials()).order
    pairs = [(claim.row, claim.other) for claim in order if not claim.over_rest]
    assert pairs == ([("First", "Second")] if claimed else [])
    # Third is printed ahead of both, so that DeepFM is all that is left.
    closest = [claim.other for claim in order if claim.over_rest]
    assert closest == (["DeepFM", "DeepFM"] if second else ["DeepFM", "Third"])


def test_where_less_is_better_the_paper_claims_the_lower_value() -> None:
    records = [
        trial(row, seed, 0, metrics={"test/cold/log_loss": value + STAGGER[seed]})
        for row, value in {"First": 0.4, "Second": 0.5}.items()
        for seed in range(10)
    ]
    for second, claimed in ((0.6, 1), (0.3, 0)):
        values = {"First": PublishedCell(0.4), "Second": PublishedCell(second)}
        published = {("ml-1m", row, "cold/log_loss"): cell for row, cell in values.items()}
        assert len(build_table(spec(metrics=["cold/log_loss"]), published, records).order) == claimed


MARKED = [row | {"mark": f"{row['name']} is small"} if row["name"] in ("First", "Third") else row for row in ROWS]


def test_marks_go_with_the_rows_to_the_order_and_the_differences():
    """As in the grid above them: a claim that fails may be one of a row that is not run as the paper runs it."""
    table = build_table(spec(rows=MARKED), {}, trials())
    text = to_markdown(table)
    notes = dict(re.findall(r"- <sup>(\d)</sup> (\w+) is small", text))
    first, third = (f"{name}<sup>{note}</sup>" for note, name in sorted(notes.items(), key=lambda pair: pair[1]))
    assert f"| cold AUC | {first} > Second | ours, tuned |  | 10 seeds |" in text
    assert f"| cold AUC | {first} > the rest | ours, tuned | {third} | 10 seeds |" in text
    assert f"| cold AUC | Second > the rest | ours, tuned | {third} | 10 seeds |" in text
    assert f"### Paired differences to {first}\n" in text
    assert f"| cold AUC | {third} | ours, tuned | 10 seeds |" in text
    assert "### Paired differences to Second\n" in text
    assert "| cold AUC | DeepFM | ours, tuned | 10 seeds |" in text


def test_the_terminal_shows_the_marks_too():
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(to_terminal(build_table(spec(rows=MARKED), {}, trials())))
    text = console.export_text()
    (first,) = re.findall(r"\[(\d)\] First is small", text)
    (third,) = re.findall(r"\[(\d)\] Third is small", text)
    assert first != third
    assert re.search(rf"│ First \[{first}\] > Second +│", text)
    assert re.search(rf"│ First \[{first}\] > the rest +│ ours, tuned +│ +Third \[{third}\] │", text)
    assert f"Paired differences to First [{first}]" in text


def test_a_line_of_a_curve_that_others_are_compared_with_shows_its_mark():
    rows = [{"name": "Base", "method": "a", "mark": "half"}, {"name": "Own", "method": "b"}]
    axis = {"parameter": "share", "values": [1, 2]}
    changes = {"kind": "curve", "axis": axis, "baseline": [], "order": [], "reference": "Base", "rows": rows}
    records = [
        trial(f"{row} at share = {value}", seed, 0.7 + 0.01 * seed)
        for row in ("Base", "Own")
        for value in (1, 2)
        for seed in range(3)
    ]
    text = to_markdown(build_table(spec(**changes), {}, records))
    assert "### Paired differences to Base at the same share<sup>1</sup>\n" in text
