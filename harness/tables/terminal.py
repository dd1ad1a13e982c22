"""A table in the terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from harness.tables.grids import Grid, GridCell, grids
from harness.tables.layout import BEYOND, Block, Entry, Line, blocks, data_notes
from harness.tables.model import Table
from harness.tables.wording import legend

STYLES = {"best": "bold", "second": "underline", "": ""}


def to_terminal(table: Table) -> Group:
    """Return the table for a rich console: the paper's lines and ours, differences, tuning, footnotes."""
    parts: list[RenderableType] = [
        Text(table.spec.title, style="bold"),
        Text(f"{table.spec.paper}. {legend(table.spec)}"),
    ]
    for block in blocks(table):
        parts += [Text(""), _main(block)]
        notes = [f"[{number}] {text}" for number, text in enumerate(block.notes, start=1)]
        parts += [Padding(Text(text), (0, 0, 0, 1)) for text in notes + data_notes(table, block)]
        parts += [_grid(grid) for grid in grids(table, block, every_cell=False)]
    return Group(*parts)


def _main(block: Block) -> RichTable:
    drawn = RichTable(title=block.title, title_justify="left")
    for column, name in enumerate(block.header):
        drawn.add_column(name, justify="left" if column < 2 else "right")
    _add(drawn, block.lines)
    if block.beyond:
        drawn.add_section()
        drawn.add_row(Text(BEYOND, style="italic"))
        _add(drawn, block.beyond)
    return drawn


def _add(drawn: RichTable, lines: Iterable[Line]) -> None:
    for line in lines:
        style = "dim" if line.kind.startswith("paper") else ""
        kind = Text(line.kind + _reference(line.note))
        drawn.add_row(Text(line.row), kind, *(_entry(entry) for entry in line.entries), style=style)


def _entry(entry: Entry) -> Text:
    value, space, rest = entry.text.partition(" ± ")
    text = Text(value, style=STYLES[entry.place])
    text.append(f"{space}{rest}", style="not bold not underline")
    text.append(_reference(entry.note), style="not bold not underline")
    return text


def _reference(note: int) -> str:
    return f" [{note}]" if note else ""


def _grid(grid: Grid) -> RichTable:
    drawn = RichTable(title=grid.title + _reference(grid.note), title_justify="left")
    for column, name in enumerate(grid.header):
        drawn.add_column(name, justify="left" if column < 3 else "right")
    for row in grid.rows:
        drawn.add_row(*(_cell(cell) for cell in row))
    return drawn


def _cell(cell: GridCell) -> Text:
    return Text(cell) if isinstance(cell, str) else Text(" ").join(_entry(entry) for entry in cell)
