"""Whether the rows of a paper come in the order that it claims."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from harness.statistics import Difference
from harness.table_specs import TableSpec
from harness.tables.model import LOWER_IS_BETTER, RELATIVE, SELECTIONS, Claim

PairedDifference = Callable[[str, str, str, str, str], Difference]
"""The difference of a row to another: of a dataset, a selection and a metric, then the two rows."""
Printed = Callable[[str, str, str], float | None]
"""The paper's value of a dataset, a row and a metric; None where it prints none."""


def claims(spec: TableSpec, paired: PairedDifference, printed: Printed) -> Iterator[Claim]:
    """Yield what `order` claims, by dataset, selection and metric, of rows that were measured.

    Each row of the order is to beat the next one, and each of them all other rows of the paper in its group: of those
    the one that comes closest is shown. Where the paper prints both rows' values and not the first one's as the better,
    it claims nothing.
    """
    groups = dict.fromkeys(spec.row(name).group for name in spec.order)
    for dataset in spec.datasets:
        for selection in SELECTIONS:
            for metric in spec.metrics:
                if metric.endswith(RELATIVE):
                    continue
                for group in groups:
                    gain = partial(_claimed_gain, paired, printed, dataset, selection, metric)
                    for row, other, over_rest, difference in _of_column(spec, group, gain):
                        yield Claim(dataset, metric, selection, row, other, over_rest, difference)


def _of_column(
    spec: TableSpec, group: str, gain: Callable[[str, str], Difference | None]
) -> Iterator[tuple[str, str, bool, Difference]]:
    ordered = [name for name in spec.order if spec.row(name).group == group]
    rest = [row.name for row in spec.rows if row.group == group and not row.beyond and row.name not in ordered]
    for place, row in enumerate(ordered):
        for other in ordered[place + 1 :]:
            if difference := gain(row, other):
                yield row, other, False, difference
    for row in ordered:
        known = [(difference, other) for other in rest if (difference := gain(row, other))]
        if known:
            difference, other = min(known, key=lambda pair: pair[0].low)
            yield row, other, True, difference


def _claimed_gain(
    paired: PairedDifference, printed: Printed, dataset: str, selection: str, metric: str, row: str, other: str
) -> Difference | None:
    """Return what a row has ahead of another one; None where that is not known, or the paper claims nothing."""
    lower_is_better = metric.endswith(LOWER_IS_BETTER)
    of_row, of_other = printed(dataset, row, metric), printed(dataset, other, metric)
    if of_row is not None and of_other is not None and (of_row >= of_other if lower_is_better else of_row <= of_other):
        return None
    difference = paired(dataset, selection, metric, row, other)
    return _gain(difference, lower_is_better=lower_is_better) if difference.n > 1 else None


def _gain(difference: Difference, *, lower_is_better: bool) -> Difference:
    if not lower_is_better:
        return difference
    low, high = -difference.high, -difference.low
    return replace(difference, mean=-difference.mean, low=low, high=high, effect=-difference.effect)
