"""The run of a table as a whole: the table as text, and its picture for each dataset."""

from __future__ import annotations

import re
from pathlib import Path

from harness.figures import figure_name, plot
from harness.tables import Table
from harness.tensorboard.events import image, key_of, run_folder, text, write_run

SUPERSCRIPT = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def write_summary(table_name: str, table: Table, markdown: str, logdir: Path) -> bool:
    """Write the run `<table>/summary`; return False when the one that is there shows the same.

    Args:
        table_name: the table's folder in results, for example `csdm/table1`.
        table: the table, for its pictures.
        markdown: the table as text, as `harness.tables.to_markdown` gives it.
        logdir: TensorBoard's folder.

    Raises:
        StoreError: `logdir` cannot be written.
    """
    measured = [
        name for name in table.spec.datasets if any(table.provenance.get((name, r.name)) for r in table.spec.rows)
    ]
    shown = [
        text("table", viewable(markdown)),
        *(image(f"{figure_name(table.spec)}/{name}", plot(table, [name])) for name in measured),
    ]
    key = key_of([event.SerializeToString(deterministic=True).hex() for event in shown])
    return write_run(run_folder(logdir, table_name, "summary"), key, lambda: shown)


def viewable(markdown: str) -> str:
    """Return a table's Markdown without the HTML and the escapes that TensorBoard would print as they stand.

    What is underlined becomes italic, and the text says so; references become superscript digits.
    """
    shown, underlined = re.subn(r"<u>(.*?)</u>", r"*\1*", markdown)
    shown = re.sub(r"<sup>(\d+)</sup>", lambda match: match[1].translate(SUPERSCRIPT), shown)
    shown = shown.replace("\\~", "~")
    return f"{shown.rstrip()}\n\n(What is underlined elsewhere is in italics here.)\n" if underlined else shown
