"""Malformed lines: counted, the first ones shown with file and line, and an error where they are too many."""

from __future__ import annotations

from collections.abc import Sequence

from harness.datasets.large.formats import SHOWN, LineFormat
from harness.datasets.large.reading import BlockReport
from harness.datasets.raw import Say
from harness.errors import DataError


def check_malformed(lines: LineFormat, reports: Sequence[BlockReport], share: float, say: Say) -> int:
    """Tell of a file's malformed lines, and return their number.

    Raises:
        DataError: they are more than this share of its lines.
    """
    malformed = sum(report.malformed for report in reports)
    if not malformed:
        return 0
    shown = _first_lines(lines, reports)
    for line in shown:
        say(line)
    total = sum(report.lines for report in reports)
    if malformed > share * total:
        raise DataError(
            f"{lines.file}: {malformed:,} of {total:,} lines are malformed, the first is {shown[0].split(': ', 1)[1]};"
            f" more than {share:.3%} is an error, --malformed-share allows more"
        )
    say(f"{lines.file}: {malformed:,} of {total:,} lines are malformed and left out")
    return malformed


def _first_lines(lines: LineFormat, reports: Sequence[BlockReport]) -> list[str]:
    first = 2 if lines.header else 1
    shown: list[str] = []
    for report in reports:
        shown += [f"{lines.file}: line {first + one.line:,}: malformed: {one.text!r}" for one in report.shown]
        first += report.lines
    return shown[:SHOWN]
