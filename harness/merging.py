"""Merging a run's trials into those that a table's folder keeps.

What stands side by side in a table has to be comparable: the seeds of a row differ in nothing else, and the rows of a
dataset are measured on the same data. Trials that would break this are shown in place of the kept ones, and the folder
stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from harness.measured import Measured, merge_measured


@dataclass(frozen=True)
class Merged:
    """A table's trials after a run.

    `kept` is for the folder, `shown` for the user: the same, but where the run's own trials do not go with the kept
    ones. `notes` says in a line each where that is so.
    """

    kept: list[Measured]
    shown: list[Measured]
    notes: list[str]


def merge_run(old: list[Measured], new: list[Measured], seeds: tuple[int, ...]) -> Merged:
    """Merge a run's trials into a folder's, whose table has these seeds.

    A dataset's trials on other data take over only when they cover all that is kept of it; a row's trials that were
    set up otherwise (parameters, versions, threads, what they start from) only when they have every seed of the table.
    Either way each row has to have finished at no less than half of the seeds at which the kept one has.
    """
    accepted: list[Measured] = []
    shown = list(old)
    notes: list[str] = []
    for dataset, records in _grouped(new, 1).items():
        before = [record for record in old if record.place[:1] == dataset]
        if not _same_data(before, records):
            if _covered(before, records):
                accepted += records
            else:
                notes.append(_other_data(before, records))
                shown = [record for record in shown if record.place[:1] != dataset] + records
            continue
        for row, group in _grouped(records, 3).items():
            measured = [record for record in before if record.place[:3] == row and record.seed in seeds]
            whole = {record.seed for record in group} >= set(seeds)
            if _same_setup(measured, group) or (whole and _finished_enough(measured, group)):
                accepted += group
            else:
                notes.append(_other_setup(measured, group, whole=whole))
                shown = [record for record in shown if record.place[:3] != row] + group
    return Merged(merge_measured(old, accepted), merge_measured(shown, accepted), notes)


def _grouped(records: Iterable[Measured], parts: int) -> dict[tuple[object, ...], list[Measured]]:
    """Group trials by the first parts of their place: dataset, row, selection, seed."""
    groups: dict[tuple[object, ...], list[Measured]] = {}
    for record in records:
        groups.setdefault(record.place[:parts], []).append(record)
    return groups


def _same_data(before: list[Measured], records: list[Measured]) -> bool:
    return not before or {record.data_hash for record in records} <= {record.data_hash for record in before}


def _covered(before: list[Measured], records: list[Measured]) -> bool:
    """Tell whether trials have every place of a dataset's kept ones, and finished at enough of each row's."""
    rows = _grouped(records, 3)
    return {record.place for record in before} <= {record.place for record in records} and all(
        _finished_enough(measured, rows[row]) for row, measured in _grouped(before, 3).items()
    )


def _finished_enough(before: list[Measured], records: list[Measured]) -> bool:
    return 2 * _finished(records) >= _finished(before)


def _finished(records: list[Measured]) -> int:
    return sum(record.status == "finished" for record in records)


def _same_setup(before: list[Measured], records: list[Measured]) -> bool:
    """Tell whether trials differ in their seeds alone.

    Of those without a setup parameters tell, and ids of the same seed, which follow from setup and seed.
    """
    setups = {record.setup for record in records}
    known = {record.setup for record in before if record.setup}
    ids = {record.place: record.trial_id for record in before if not record.setup}
    alike = all(ids.get(record.place, record.trial_id) == record.trial_id for record in records)
    return _same_parameters(before, records) and known <= setups and alike


def _same_parameters(before: list[Measured], records: list[Measured]) -> bool:
    return {record.parameters for record in before} <= {record.parameters for record in records}


def _other_data(before: list[Measured], records: list[Measured]) -> str:
    known = ", ".join(sorted({record.data_hash[:12] for record in before}))
    return (
        f"{records[0].dataset}: data {records[0].data_hash[:12]}, the table's folder has {known}: shown below, not "
        "kept; delete the folder's measured.parquet to begin it anew"
    )


def _other_setup(before: list[Measured], records: list[Measured], *, whole: bool) -> str:
    dataset, row, selection, _ = records[0].place
    what = "versions or settings" if _same_parameters(before, records) else "parameters"
    failed = f"{len(records) - _finished(records)} of {len(records)} seeds failed, run them again with --retry-failed"
    return (
        f"{dataset}, {row} ({selection}): measured before with other {what}: shown below, not kept;"
        f" {failed if whole else 'run all seeds'} to replace it"
    )
