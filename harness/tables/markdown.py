"""A table as Markdown: what is committed as `table.md`."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.tables.grids import Grid, GridCell, grids
from harness.tables.layout import BEYOND, Block, Entry, Line, blocks, data_notes
from harness.tables.model import Table
from harness.tables.wording import legend


def to_markdown(table: Table) -> str:
    """Return the table as Markdown: a section a dataset, the paper's lines and ours one above the other."""
    parts = [f"# {table.spec.title}", f"Paper: {table.spec.paper}. {legend(table.spec)}"]
    for block in blocks(table):
        parts += [f"## {block.title}", _main(block, block.lines)]
        if block.beyond:
            parts += [f"### {BEYOND}", _main(block, block.beyond)]
        parts += _notes(block, table)
        for grid in grids(table, block):
            parts += [f"### {grid.title}{_reference(grid.note)}", _grid(grid)]
    return "\n\n".join(parts) + "\n"


def _main(block: Block, lines: Iterable[Line]) -> str:
    rows = []
    for line in lines:
        kind = escaped(line.kind) + _reference(line.note)
        rows.append([escaped(line.row), kind, *(_entry(entry) for entry in line.entries)])
    return _pipes(block.header, rows, left=2)


def _entry(entry: Entry) -> str:
    text = escaped(entry.text)
    # Only the value is marked, as in the papers, not its interval.
    value, space, rest = text.partition(" ± ")
    value = {"best": f"**{value}**", "second": f"<u>{value}</u>", "": value}[entry.place]
    return f"{value}{space}{rest}{_reference(entry.note)}"


def _reference(note: int) -> str:
    return f"<sup>{note}</sup>" if note else ""


def _notes(block: Block, table: Table) -> list[str]:
    numbered = [f"{_reference(number)} {escaped(text)}" for number, text in enumerate(block.notes, start=1)]
    texts = numbered + [escaped(text) for text in data_notes(table, block)]
    return ["\n".join(f"- {text}" for text in texts)] if texts else []


def _grid(grid: Grid) -> str:
    return _pipes(grid.header, [[_cell(cell) for cell in row] for row in grid.rows], left=3)


def _cell(cell: GridCell) -> str:
    return escaped(cell) if isinstance(cell, str) else " ".join(_entry(entry) for entry in cell)


def _pipes(header: Sequence[str], rows: Iterable[Sequence[str]], left: int) -> str:
    rule = [":--" if column < left else "--:" for column in range(len(header))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def escaped(text: str) -> str:
    """Return text in which nothing is Markdown or HTML and nothing ends a table's cell."""
    for character in "\\|*_`~[]":
        text = text.replace(character, "\\" + character)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").split())
