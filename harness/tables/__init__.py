"""The published table and our measurements of it, side by side: `build_table`, then one of the renderers."""

from harness.tables.build import build_table
from harness.tables.latex import to_latex
from harness.tables.long_form import to_csv
from harness.tables.markdown import to_markdown
from harness.tables.model import Cell, Comparison, Measurement, Provenance, Table
from harness.tables.published import PublishedCell, read_published
from harness.tables.terminal import to_terminal

__all__ = [
    "Cell",
    "Comparison",
    "Measurement",
    "Provenance",
    "PublishedCell",
    "Table",
    "build_table",
    "read_published",
    "to_csv",
    "to_latex",
    "to_markdown",
    "to_terminal",
]
