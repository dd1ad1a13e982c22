"""What every renderer shows, in the same order and with the same digits; the renderers only add their markup."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.record import OPTIMUM_AUC, TRAINING_ROWS
from harness.statistics import Difference, Summary
from harness.table_rows import Row
from harness.table_specs import TableSpec
from harness.tables.counts import AVERAGE_LENGTH, COUNTS
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
COUNTS_LEGEND = "Ours: counted in the prepared data. ✓ equals the printed number, ✗ does not."
TIMES = (
    "Ours: milliseconds, the median over batches after a warm-up, each trial alone on its machine; mean over seeds ± "
    "half of its 95 % t-interval. Best bold, second best underlined. Effect: the mean paired difference over its "
    "standard deviation."
)
SECONDS = (
    "Times in seconds, each trial alone on its machine: an epoch's training and the inference of one split's users as "
    "medians, all epochs together with their validation."
)
BEYOND = "Beyond the paper"
KINDS = {"published": "ours, published parameters", "tuned": "ours, tuned"}
_NAMES = {
    "auc": "AUC",
    RELATIVE: "RelaImpr",
    "recall": "Recall",
    "ndcg": "NDCG",
    "log_loss": "log loss",
    "ece": "ECE",
    "batch_ms": "ms a batch",
    "step_ms": "ms a step",
    "epoch_s": "seconds an epoch",
    "training_s": "seconds of training",
    "inference_s": "seconds of inference",
    "best_validation": "best validation",
    "best_epoch": "best epoch",
    "best_s": "seconds to it",
    AVERAGE_LENGTH: "average length",
    TRAINING_ROWS: "training rows",
    OPTIMUM_AUC: "best possible AUC",
}


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
    """A part of a table: a dataset's cells, or what all datasets count.

    `beyond` are the lines of rows that are not the paper's. `notes` are the footnotes that lines and entries refer to,
    the first being 1.
    """

    title: str
    datasets: tuple[str, ...]
    header: tuple[str, ...]
    lines: tuple[Line, ...]
    beyond: tuple[Line, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Grid:
    """A plain table of texts under a heading."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def blocks(table: Table) -> list[Block]:
    """Return the table's parts in the order of its datasets; counts of all datasets are one part."""
    if table.spec.kind == "statistics":
        return [_counts(table)]
    return [_block(table, dataset) for dataset in table.spec.datasets]


def legend(spec: TableSpec) -> str:
    """Say how the table is read."""
    if spec.kind == "timing" and not any(metric.endswith("_ms") for metric in spec.metrics):
        return f"{LEGEND} {SECONDS}"
    return {"statistics": COUNTS_LEGEND, "timing": TIMES}.get(spec.kind, LEGEND)


def grids(table: Table, block: Block, *, every_cell: bool = True) -> list[Grid]:
    """Return the order, paired differences, each cell's statistics, and how it was run; those that have rows."""
    if table.spec.kind == "statistics":
        return []
    found: list[Grid] = []
    for dataset in block.datasets:
        found += [order(table, dataset), *differences(table, dataset)]
        found += [statistics(table, dataset)] if every_cell else []
        found.append(runs(table, dataset))
    return [grid for grid in found if grid.rows]


def order(table: Table, dataset: str) -> Grid:
    """Return whether the order that the paper claims holds, judged by paired intervals."""
    rows = []
    for claim in table.order:
        if claim.dataset == dataset:
            m, d = claim.metric, claim.difference
            rest = "the rest" if claim.over_rest else claim.other
            closest = claim.other if claim.over_rest else ""
            figures = (_pairs(d), signed(m, d.mean), f"{signed(m, d.low)} … {signed(m, d.high)}")
            stated = (metric_title(m), f"{claim.row} > {rest}", KINDS[claim.selection])
            rows.append((*stated, closest, *figures, claim.verdict))
    header = ("metric", "order", "parameters", "closest", "pairs", "difference", "95 % interval", "verdict")
    return Grid("Order: holds where the paired interval lies above 0, fails where below", header, tuple(rows))


def _pairs(difference: Difference) -> str:
    pairs = difference.pairs.removesuffix("s") if difference.n == 1 else difference.pairs
    return f"{difference.n} {pairs}"


def differences(table: Table, dataset: str) -> list[Grid]:
    """Return the paired differences to each reference row."""
    return [_differences(table, dataset, reference) for reference in table.spec.references]


def _differences(table: Table, dataset: str, reference: str) -> Grid:
    rows = []
    for c in table.comparisons:
        if (c.dataset, c.reference) == (dataset, reference):
            d = c.difference
            interval = f"{signed(c.metric, d.low)} … {signed(c.metric, d.high)}"
            figures = (signed(c.metric, d.mean), interval, p_value(d.p_value), p_value(c.holm), number(d.effect, 2))
            rows.append((metric_title(c.metric), c.row, KINDS[c.selection], _pairs(d), *figures))
    header = ("metric", "row", "parameters", "pairs", "difference", "95 % interval", "p", "p (Holm)", "effect")
    at = f" at the same {table.spec.axis.parameter}" if table.spec.axis else ""
    return Grid(f"Paired differences to {reference}{at}", header, tuple(rows))


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
    if not run.search_trials:
        return "starts from tuned parameters"
    return f"{run.search_trials} trials, {run.search_distinct} distinct, space {run.space_hash}"


def parameter_text(parameters: str) -> str:
    """Return JSON parameters as `name=value, …`."""
    return ", ".join(f"{name}={value}" for name, value in json.loads(parameters).items()) or "defaults"


def data_notes(table: Table, block: Block) -> list[str]:
    """Say what data was used, what is wrong with it, where times were taken, what was not run, which seeds failed."""
    if len(block.datasets) == 1:
        return _data_notes(table, block.datasets[0])
    return [f"{name}: {text[0].lower()}{text[1:]}" for name in block.datasets for text in _data_notes(table, name)]


def _data_notes(table: Table, dataset: str) -> list[str]:
    runs = [(row.name, run) for row in table.spec.rows for run in table.provenance.get((dataset, row.name), ())]
    texts = [f"Data: {data_hash[:12]}." for data_hash in _distinct(h for _, run in runs for h in run.data_hashes)]
    texts += [f"Data: {note}" for note in _distinct(note for _, run in runs for note in run.data_notes)]
    for name, run in runs:
        if max(len(run.parameters), len(run.setups), len(run.data_hashes)) > 1:
            texts.append(f"{name}, {run.selection}: its seeds differ in parameters, versions or data; run it again.")
        texts += [f"{name}, {run.selection}, seed {seed} failed: {error}" for seed, error in run.failures]
    texts += [f"Timed on: {where}." for where in _distinct(e for _, run in runs for e in run.environments)]
    if len(_distinct(code for _, run in runs for code in run.timed_codes)) > 1:
        versions = ", ".join(f"{name} {' and '.join(code[:6] for code in run.timed_codes)}" for name, run in runs)
        texts.append(
            f"Timed with several versions of the program ({versions}); a run with a new --store times all with one."
        )
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
    """Return a value with four decimals, RelaImpr in percent with two, a count without; `–` where there is none."""
    if metric == AVERAGE_LENGTH or metric.endswith("_s"):
        return number(x, 2)
    if metric == "best_epoch":
        return number(x, 1)
    if metric in (*COUNTS, TRAINING_ROWS) and not math.isnan(x):
        return f"{x:,.0f}"
    if metric.endswith("_ms"):
        return number(x, 3)
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
    lines: dict[bool, list[Line]] = {False: [], True: []}
    for row in sorted(table.spec.rows, key=lambda row: row.beyond):
        lines[row.beyond] += _lines(table, dataset, row, notes)
    header = ("method", "", *(metric_title(metric) for metric in table.spec.metrics))
    return Block(dataset, (dataset,), header, tuple(lines[False]), tuple(lines[True]), tuple(notes))


def _counts(table: Table) -> Block:
    """Return one part with a pair of lines a dataset."""
    notes: list[str] = []
    lines: list[Line] = []
    (row,) = table.spec.rows
    for dataset in table.spec.datasets:
        own = _lines(table, dataset, row, notes)
        lines += [replace(line, row=dataset if line.row else "", kind=line.kind.split(",")[0]) for line in own]
    header = ("dataset", "", *(metric_title(metric) for metric in table.spec.metrics))
    return Block("Counts", table.spec.datasets, header, tuple(lines), (), tuple(notes))


def _lines(table: Table, dataset: str, row: Row, notes: list[str]) -> Iterable[Line]:
    """Yield the paper's line, then ours by selection; a line of a row that the paper has not only says its status."""
    cells = [table.cell(dataset, row.name, metric) for metric in table.spec.metrics]
    metrics = table.spec.metrics
    status = table.status.get((dataset, row.name))
    name = row.name
    own = row.beyond or not any(cell.published for cell in table.cells.values())
    if any(cell.published for cell in cells) or status:
        printed = tuple(_printed(metric, cell, notes) for metric, cell in zip(metrics, cells, strict=True))
        yield Line(name, (status if own else f"paper ({status})") if status else "paper", printed)
        name = ""
    for selection, kind in KINDS.items():
        if any(selection in cell.measured for cell in cells):
            entries = tuple(_ours(m, c.measured[selection]) for m, c in zip(metrics, cells, strict=True))
            measured = [cell.measured[selection].summary for cell in cells if selection in cell.measured]
            yield Line(name, kind + _missing_seeds(measured, table.spec.seeds), entries, _note(row.mark, notes))
            name = ""


def _missing_seeds(measured: Sequence[Summary], seeds: Sequence[int]) -> str:
    """Return how many of the table's seeds a line has, where some were not run yet."""
    run = max(summary.n + summary.failed for summary in measured)
    return f", {run} of {len(seeds)} seeds" if run < len(seeds) else ""


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
