"""What every renderer shows, in the same order and with the same digits; the renderers only add their markup."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from harness.tables.model import RELATIVE, Cell, Measurement, Place, Provenance, Table

SYMBOLS = {"reproduced": "✓", "consistent": "≈", "not reproduced": "✗"}
UNSTABLE = "~"
LEGEND = (
    "Ours: mean over seeds ± half of its 95 % t-interval. Against the paper: ✓ reproduced (within the tolerance), "
    "≈ consistent (beyond it, but the printed value lies in the 95 % interval of seeds and test sample together), "
    "✗ not reproduced; ~ unstable (the seeds' standard deviation exceeds the tolerance). "
    "Best bold, second best underlined, among printed and among measured values apart. Effect: the mean paired "
    "difference over its standard deviation; among thousands of users even a tiny effect has a tiny p."
)
KINDS = {"published": "ours, published parameters", "tuned": "ours, tuned"}
_NAMES = {"auc": "AUC", RELATIVE: "RelaImpr", "recall": "Recall", "ndcg": "NDCG", "log_loss": "log loss"}


@dataclass(frozen=True)
class Entry:
    """A cell's text with its mark; `note` is the number of a footnote, 0 for none."""

    text: str
    place: Place = ""
    note: int = 0


@dataclass(frozen=True)
class Line:
    """A line: the paper's or one of ours. `row` is empty where the line above has the same."""

    row: str
    kind: str
    entries: tuple[Entry, ...]
    note: int = 0


@dataclass(frozen=True)
class Block:
    """A dataset's part of a table. `notes` are the footnotes that lines and entries refer to, the first being 1."""

    dataset: str
    header: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A plain table of texts under a heading."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def blocks(table: Table) -> list[Block]:
    """Return the table's parts in the order of its datasets."""
    return [_block(table, dataset) for dataset in table.spec.datasets]


def grids(table: Table, dataset: str) -> list[Grid]:
    """Return paired differences, each cell's statistics, and how it was run; those that have rows."""
    return [
        grid for grid in (differences(table, dataset), statistics(table, dataset), runs(table, dataset)) if grid.rows
    ]


def differences(table: Table, dataset: str) -> Grid:
    """Return the paired differences to the reference row."""
    rows = []
    for c in table.comparisons:
        if c.dataset == dataset:
            d = c.difference
            interval = f"{signed(c.metric, d.low)} … {signed(c.metric, d.high)}"
            figures = (signed(c.metric, d.mean), interval, p_value(d.p_value), p_value(c.holm), number(d.effect, 2))
            rows.append((metric_title(c.metric), c.row, KINDS[c.selection], f"{d.n} {d.pairs}", *figures))
    header = ("metric", "row", "parameters", "pairs", "difference", "95 % interval", "p", "p (Holm)", "effect")
    return Grid(f"Paired differences to {table.spec.reference}", header, tuple(rows))


def statistics(table: Table, dataset: str) -> Grid:
    """Return every statistic of the measured cells."""
    rows = []
    for row in table.spec.rows:
        for metric in table.spec.metrics:
            cell = table.cell(dataset, row.name, metric)
            for selection, measurement in cell.measured.items():
                verdict = table.verdict(dataset, row.name, metric, selection)
                rows.append(
                    (row.name, metric_title(metric), KINDS[selection], *_figures(metric, cell, measurement), verdict)
                )
    seeds = ("n", "failed", "mean", "sd", "95 % of seeds", "min", "max", "error of test sample")
    header = ("row", "metric", "parameters", *seeds, "printed", "difference", "95 % of both", "verdict")
    return Grid("Every measured cell", header, tuple(rows))


def _figures(metric: str, cell: Cell, m: Measurement) -> tuple[str, ...]:
    s, judged = m.summary, m.agreement
    seeds = (value(metric, s.mean), value(metric, s.deviation), interval(metric, s.low, s.high))
    printed = value(metric, cell.published.value) if cell.published else "–"
    difference = signed(metric, s.mean - cell.published.value) if cell.published else "–"
    both = interval(metric, judged.low, judged.high) if judged else "–"
    extremes = (value(metric, s.minimum), value(metric, s.maximum), value(metric, m.sampling_error))
    return (str(s.n), str(s.failed), *seeds, *extremes, printed, difference, both)


def runs(table: Table, dataset: str) -> Grid:
    """Return how the rows were run: parameters, seeds, tuning budget.

    Times and memory differ from run to run, and a table does not: they are in TensorBoard.
    """
    rows = []
    for row in table.spec.rows:
        for run in table.provenance.get((dataset, row.name), ()):
            seeds = f"{len(run.seeds)} of {len(table.spec.seeds)}"
            rows.append((row.name, "; ".join(map(parameter_text, run.parameters)), budget(run), seeds))
    header = ("row", "parameters", "tuning", "finished seeds")
    return Grid("How each row was run", header, tuple(rows))


def budget(run: Provenance) -> str:
    """Say how parameters were chosen."""
    if run.selection == "published":
        return "published parameters"
    return f"{run.search_trials} trials, {run.search_distinct} distinct, space {run.space_hash}"


def parameter_text(parameters: str) -> str:
    """Return JSON parameters as `name=value, …`."""
    return ", ".join(f"{name}={value}" for name, value in json.loads(parameters).items()) or "defaults"


def data_notes(table: Table, dataset: str) -> list[str]:
    """Say what data was used, what is wrong with it, what was not run, and which seeds failed."""
    runs = [(row.name, run) for row in table.spec.rows for run in table.provenance.get((dataset, row.name), ())]
    texts = [f"Data: {data_hash[:12]}." for data_hash in _distinct(h for _, run in runs for h in run.data_hashes)]
    texts += [f"Data: {note}" for note in _distinct(note for _, run in runs for note in run.data_notes)]
    for name, run in runs:
        if len(run.parameters) > 1 or len(run.data_hashes) > 1:
            texts.append(f"{name}, {run.selection}: its seeds differ in parameters or data; run it again.")
        texts += [f"{name}, {run.selection}, seed {seed} failed: {error}" for seed, error in run.failures]
    for status in ("no data", "not run"):
        names = [row.name for row in table.spec.rows if table.status.get((dataset, row.name)) == status]
        if names:
            texts.append(
                f"{status.capitalize()}: {', '.join(names) if len(names) < len(table.spec.rows) else 'all rows'}."
            )
    return texts


def metric_title(metric: str) -> str:
    """Return `warm_a/auc` as `warm-a AUC`, `recall@5` as `Recall@5`."""
    stage, _, name = metric.rpartition("/")
    kind, at, k = name.partition("@")
    return f"{stage.replace('_', '-')} {_NAMES.get(kind, kind)}{at}{k}".strip()


def value(metric: str, x: float) -> str:
    """Return a value with four decimals, RelaImpr in percent with two; `–` where there is none."""
    return number(x, 2) + " %" if metric.endswith(RELATIVE) and not math.isnan(x) else number(x, 4)


def signed(metric: str, x: float) -> str:
    """Return a difference with its sign."""
    text = value(metric, x)
    return f"+{text}" if x > 0 and text.strip("0. %") else text


def interval(metric: str, low: float, high: float) -> str:
    """Return `low … high`, or `–` where there is none."""
    return "–" if math.isnan(low) else f"{value(metric, low)} … {value(metric, high)}"


def p_value(p: float) -> str:
    """Return a p-value with three decimals."""
    return "< 0.001" if p < 0.001 else number(p, 3)


def number(x: float, decimals: int) -> str:
    """Return a number without a negative zero; `–` for NaN."""
    if math.isnan(x):
        return "–"
    text = f"{x:.{decimals}f}"
    return text[1:] if text.startswith("-") and not text.strip("-0.") else text


def _block(table: Table, dataset: str) -> Block:
    notes: list[str] = []
    lines = [line for row in table.spec.rows for line in _lines(table, dataset, row.name, row.mark, notes)]
    header = ("method", "", *(metric_title(metric) for metric in table.spec.metrics))
    return Block(dataset, header, tuple(lines), tuple(notes))


def _lines(table: Table, dataset: str, row: str, mark: str, notes: list[str]) -> Iterable[Line]:
    """Yield the paper's line, then ours by selection."""
    cells = [table.cell(dataset, row, metric) for metric in table.spec.metrics]
    metrics = table.spec.metrics
    status = table.status.get((dataset, row))
    name = row
    if any(cell.published for cell in cells) or status:
        printed = tuple(_printed(metric, cell, notes) for metric, cell in zip(metrics, cells, strict=True))
        yield Line(name, f"paper ({status})" if status else "paper", printed)
        name = ""
    for selection, kind in KINDS.items():
        if any(selection in cell.measured for cell in cells):
            entries = tuple(_ours(m, c.measured[selection]) for m, c in zip(metrics, cells, strict=True))
            yield Line(name, kind, entries, _note(mark, notes))
            name = ""


def _printed(metric: str, cell: Cell, notes: list[str]) -> Entry:
    if cell.published is None:
        return Entry("–")
    return Entry(value(metric, cell.published.value), cell.published_place, _note(cell.published.flag, notes))


def _ours(metric: str, m: Measurement) -> Entry:
    if m.summary.n == 0:
        return Entry("failed" if m.summary.failed else "–")
    mean, half = value(metric, m.summary.mean), m.summary.half_width
    # The baseline's RelaImpr is 0 by definition, under every seed.
    if half > 0:
        mean = f"{mean.removesuffix(' %')} ± {value(metric, half)}"
    marks = ""
    if m.agreement:
        marks = f" {SYMBOLS.get(m.agreement.verdict, '')}{UNSTABLE if m.agreement.unstable else ''}"
    return Entry(f"{mean}{marks}", m.place)


def _note(text: str, notes: list[str]) -> int:
    """Return the footnote's number, adding it when it is new; 0 without a text."""
    if not text:
        return 0
    if text not in notes:
        notes.append(text)
    return notes.index(text) + 1


def _distinct(texts: Iterable[str]) -> Sequence[str]:
    return list(dict.fromkeys(texts))
