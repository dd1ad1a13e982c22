"""A table as LaTeX with booktabs: one tabular a dataset, the best bold, the second best underlined."""

from __future__ import annotations

from harness.tables.layout import BEYOND, Block, Entry, Line, blocks, data_notes
from harness.tables.model import Table
from harness.tables.wording import legend

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "✓": r"$\checkmark$",
    "≈": r"$\approx$",
    "✗": r"$\times$",
    "–": "--",
    "…": r"\dots{}",
}


def to_latex(table: Table) -> str:
    """Return one `table` environment a dataset; needs the packages booktabs, amssymb and graphicx."""
    head = "% \\usepackage{booktabs,amssymb,graphicx}"
    return "\n".join([head, *(_environment(table, block) for block in blocks(table))]) + "\n"


def _environment(table: Table, block: Block) -> str:
    columns = "ll" + "r" * (len(block.header) - 2)
    caption = f"{table.spec.title}: {block.title}. {legend(table.spec)}"
    notes = [f"{_reference(number)} {escaped(text)}" for number, text in enumerate(block.notes, start=1)]
    notes += [escaped(text) for text in data_notes(table, block)]
    lines = [_line(line) for line in block.lines]
    if block.beyond:
        head = rf"\multicolumn{{{len(block.header)}}}{{l}}{{\emph{{{BEYOND}}}}} \\"
        lines += [r"\midrule", head, *(_line(line) for line in block.beyond)]
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{escaped(caption)}}}",
            r"\resizebox{\linewidth}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            " & ".join(escaped(name) for name in block.header) + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            *(rf"\par\footnotesize {note}" for note in notes),
            r"\end{table}",
        ]
    )


def _line(line: Line) -> str:
    cells = [escaped(line.row), escaped(line.kind) + _reference(line.note), *map(_entry, line.entries)]
    return " & ".join(cells) + r" \\"


def _entry(entry: Entry) -> str:
    value, space, rest = entry.text.partition(" ± ")
    command = {"best": r"\textbf{%s}", "second": r"\underline{%s}", "": "%s"}[entry.place]
    return command % escaped(value) + escaped(space + rest) + _reference(entry.note)


def _reference(note: int) -> str:
    return rf"\textsuperscript{{{note}}}" if note else ""


def escaped(text: str) -> str:
    """Return text in which nothing is a LaTeX command."""
    return "".join(_SPECIAL.get(character, character) for character in text)
