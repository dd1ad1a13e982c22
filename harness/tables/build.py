"""From published cells and measured trials to a table."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace

from harness.datasets.prepared import SYNTHETIC
from harness.measured import Measured
from harness.projections import Projection
from harness.record import PLANTED
from harness.statistics import (
    Difference,
    Verdict,
    agreement,
    holm,
    paired_by_seed,
    paired_by_user,
    summarize,
)
from harness.table_specs import TableSpec
from harness.tables.model import (
    LOWER_IS_BETTER,
    RELATIVE,
    SELECTIONS,
    Cell,
    Comparison,
    Measurement,
    Place,
    Provenance,
    Table,
)
from harness.tables.order import claims
from harness.tables.published import Key, PublishedCell
from harness.tables.values import Group, TableTrials, tolerance_of

_RANKED = ("cells", "timing")


def build_table(
    spec: TableSpec,
    published: Mapping[Key, PublishedCell],
    measured: Iterable[Measured],
    available_datasets: Collection[str] = (),
    projections: Iterable[Projection] = (),
) -> Table:
    """Put a table together.

    Trials of rows, datasets or seeds that the table does not ask for are left out. Where trials ran on generated data,
    their dataset has no published cells, no verdicts, and no part in the paper's order.

    Args:
        spec: what the table asks for.
        published: what the paper prints.
        measured: our trials.
        available_datasets: datasets whose data is at hand; others without trials are shown as `no data`.
        projections: what a projection shows of our trials.
    """
    trials = TableTrials(spec, measured)
    generated = {dataset for (dataset, _, _) in trials if _on_generated_data(trials, dataset)}
    at_hand = {*available_datasets, *(dataset for dataset, _, _ in trials)}
    cells: dict[Key, Cell] = {}
    provenance: dict[tuple[str, str], tuple[Provenance, ...]] = {}
    status: dict[tuple[str, str], Verdict] = {}
    for dataset in spec.datasets:
        for row in spec.rows:
            groups = [(dataset, row.name, selection) for selection in SELECTIONS]
            groups = [group for group in groups if trials[group]]
            provenance[dataset, row.name] = tuple(_provenance(group[2], trials[group]) for group in groups)
            if not groups:
                status[dataset, row.name] = "not run" if at_hand >= {dataset, *row.pretrained_on} else "no data"
            for metric in spec.metrics:
                printed = None if dataset in generated else published.get((dataset, row.name, metric))
                ours = {group[2]: _measurement(spec, trials, group, metric, printed) for group in groups}
                cells[dataset, row.name, metric] = Cell(printed, "", ours)
    compared = tuple(_comparisons(spec, trials))
    claimed = claims(
        spec,
        lambda *cell: paired_difference(spec, trials, *cell),
        lambda *place: published[place].value if place in published else None,
    )
    ordered = tuple(claim for claim in claimed if claim.dataset not in generated)
    curves = {group: own for group in trials if (own := trials.curves(group))}
    reliability = {group: diagrams for group in trials if (diagrams := trials.reliability(group))}
    shown = {one.place: one for one in projections if one.trial_id in trials.ids(one.place)}
    return Table(spec, _with_places(spec, cells), compared, provenance, status, ordered, curves, shown, reliability)


def _on_generated_data(trials: TableTrials, dataset: str) -> bool:
    return any(
        trial.data_note.startswith(SYNTHETIC) for group in trials if group[0] == dataset for trial in trials[group]
    )


def _measurement(
    spec: TableSpec, trials: TableTrials, group: Group, metric: str, printed: PublishedCell | None
) -> Measurement:
    values = trials.values(group, metric)
    summary = summarize(list(values.values()), failed=sum(trial.status == "failed" for trial in trials[group]))
    error = trials.sampling_error(group, metric)
    tolerance = tolerance_of(spec, metric, printed.value) if printed else None
    judged = None
    if printed and tolerance is not None:
        # Counts are exact: no other sample of the dataset is meant.
        judged = agreement(printed.value, summary, tolerance, 0.0 if spec.kind == "statistics" else error)
    return Measurement(summary, values, error, judged)


def _comparisons(spec: TableSpec, trials: TableTrials) -> Iterable[Comparison]:
    for dataset in spec.datasets:
        for selection in SELECTIONS:
            for metric in spec.metrics:
                if not metric.endswith(RELATIVE) and metric not in PLANTED:
                    for reference in spec.references:
                        yield from _column(spec, trials, dataset, selection, metric, reference)


def _column(
    spec: TableSpec, trials: TableTrials, dataset: str, selection: str, metric: str, reference: str
) -> Iterable[Comparison]:
    """Compare every row of its group with a reference, adjusting the p-values of this column."""
    differences: dict[str, Difference] = {}
    for row in spec.rows:
        other = spec.compared_with(row, reference)
        if other is not None:
            difference = paired_difference(spec, trials, dataset, selection, metric, row.name, other)
            if difference.n:
                differences[row.name] = difference
    adjusted = holm([difference.p_value for difference in differences.values()])
    for (row_name, difference), p_value in zip(differences.items(), adjusted, strict=True):
        yield Comparison(dataset, metric, selection, row_name, reference, difference, p_value)


def paired_difference(
    spec: TableSpec, trials: TableTrials, dataset: str, selection: str, metric: str, row: str, reference: str
) -> Difference:
    """Pair by user where ranks are known, unless the table's rows share all else under a seed; otherwise by seed.

    Beside tuned rows an untuned one stands with its published parameters; two untuned ones are compared once.
    """
    untuned = {name for name in (row, reference) if selection == "tuned" and spec.row(name).untuned}
    if untuned >= {row, reference}:
        return paired_by_seed({}, {})
    group, reference_group = (
        (dataset, name, "published" if name in untuned else selection) for name in (row, reference)
    )
    if spec.pairs == "seeds":
        return paired_by_seed(trials.values(group, metric), trials.values(reference_group, metric))
    value_SU, reference_SU = trials.by_user(group, metric), trials.by_user(reference_group, metric)
    if value_SU is not None and reference_SU is not None and value_SU.shape[1] == reference_SU.shape[1]:
        return paired_by_user(value_SU, reference_SU)
    return paired_by_seed(trials.values(group, metric), trials.values(reference_group, metric))


def _provenance(selection: str, group: Sequence[Measured]) -> Provenance:
    return Provenance(
        selection=selection,
        parameters=tuple(sorted({trial.parameters for trial in group})),
        seeds=tuple(trial.seed for trial in group if trial.status == "finished"),
        failures=tuple((trial.seed, trial.error) for trial in group if trial.status == "failed"),
        search_trials=max(trial.search_trials for trial in group),
        search_distinct=max(trial.search_distinct for trial in group),
        search_failed=max(trial.search_failed for trial in group),
        space_hash=max(trial.space_hash for trial in group),
        setups=tuple(sorted({trial.setup for trial in group if trial.setup})),
        data_hashes=tuple(sorted({trial.data_hash for trial in group if trial.data_hash})),
        data_notes=tuple(sorted({trial.data_note for trial in group if trial.data_note})),
        environments=tuple(sorted({trial.environment for trial in group if trial.environment})),
        timed_codes=tuple(sorted({trial.code_hash for trial in group if trial.environment})),
    )


def _with_places(spec: TableSpec, cells: Mapping[Key, Cell]) -> dict[Key, Cell]:
    """Mark the best and second best of each column, among published and among measured values apart.

    Rows of one group compete; those beyond the paper, and points of a curve, do not, nor does what is the data's.
    """
    placed = dict(cells)
    columns = dict.fromkeys(
        (dataset, metric, row.group) for dataset in spec.datasets for metric in spec.metrics for row in spec.rows
    )
    for dataset, metric, group in columns:
        competing = [row for row in spec.rows if row.group == group and not row.beyond]
        ranked = spec.kind in _RANKED and metric not in PLANTED
        column = [(dataset, row.name, metric) for row in competing] if ranked else []
        printed = {key: cell.published.value for key in column if (cell := cells[key]).published is not None}
        for key, place in _places(printed, metric).items():
            placed[key] = replace(placed[key], published_place=place)
        for selection in SELECTIONS:
            means = {key: m.summary.mean for key in column if (m := cells[key].measured.get(selection)) is not None}
            for key, place in _places(means, metric).items():
                measured = dict(placed[key].measured)
                measured[selection] = replace(measured[selection], place=place)
                placed[key] = replace(placed[key], measured=measured)
    return placed


def _places(values: Mapping[Key, float], metric: str) -> dict[Key, Place]:
    """Return the best and second best of at least two values; equal values share a place."""
    known = {key: value for key, value in values.items() if not math.isnan(value)}
    if len(known) < 2:
        return {}
    ordered = sorted(set(known.values()), reverse=not metric.endswith(LOWER_IS_BETTER))
    names: dict[float, Place] = {ordered[0]: "best"}
    if len(ordered) > 1 and sum(value == ordered[0] for value in known.values()) == 1:
        names[ordered[1]] = "second"
    return {key: names[value] for key, value in known.items() if value in names}
