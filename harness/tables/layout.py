"""What every renderer shows of a table and its cells, in the same order; the renderers only add their markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from harness.statistics import Summary
from harness.table_rows import Row
from harness.tables.model import Cell, Measurement, Place, Table
from harness.tables.wording import KINDS, metric_title, value

SYMBOLS = {"reproduced": "✓", "consistent": "≈", "not reproduced": "✗"}
UNSTABLE = "~"
BEYOND = "Beyond the paper"


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


def blocks(table: Table) -> list[Block]:
    """Return the table's parts in the order of its datasets; counts of all datasets are one part."""
    if table.spec.kind == "statistics":
        return [_counts(table)]
    return [_block(table, dataset) for dataset in table.spec.datasets]


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
        timed = [(name, run.timed_codes) for name, run in runs if run.timed_codes]
        versions = ", ".join(f"{name} {' and '.join(code[:6] for code in codes)}" for name, codes in timed)
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
