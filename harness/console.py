"""The console that prints what others have written."""

from __future__ import annotations

from typing import TextIO

from rich.console import Console


def plain_console(*, stderr: bool = False, width: int | None = None, file: TextIO | None = None) -> Console:
    """Return a console for standard output, standard error or a file that shows texts as they are.

    Errors of trials, names and paths may hold `[/…]` or `:100:`, which rich would take for its own marks.
    """
    return Console(stderr=stderr, width=width, file=file, markup=False, emoji=False)
