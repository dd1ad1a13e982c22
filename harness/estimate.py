"""How long what is left would take, from the trials that are known."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import StoreError
from harness.record import TrialResult
from harness.request import Line
from harness.schedule import Schedule
from harness.specs import Parameters, TrialSpec
from harness.store import Store

SIZE = "size"
"""The parameter of an embedding size, in all methods."""


@dataclass(frozen=True)
class Left:
    """What one line still has to run; `seconds` of all its trials together, None while none is known.

    `slots` is how many slots each of its trials takes, by its threads.
    """

    dataset: str
    row: str
    purpose: str
    trials: int
    seconds: float | None
    slots: float = 1.0


def known_trials(store: Store) -> list[TrialResult]:
    """Return the records of all finished trials of a store that this version can read."""
    records = []
    for trial_id in store.ids():
        with contextlib.suppress(StoreError):
            records.append(store.record(trial_id))
    return [record for record in records if record is not None and record.status == "finished"]


def left(schedule: Schedule, known: Iterable[TrialResult]) -> list[Left]:
    """Return what is left, by line and purpose, with the time that trials like it took."""
    records = list(known)
    result = []
    table = schedule.request.table
    least = min((table.threads_of(line.row) for line in schedule.lines), default=table.threads)
    for line, purpose, trials in schedule.remaining():
        alike = [record for record in records if _is_alike(record.spec, line)]
        mean = _mean_seconds(_closest(alike, schedule.typical(line), purpose))
        seconds = None if mean is None else mean * trials
        slots = 1.0 if table.alone else table.threads_of(line.row) / least
        result.append(Left(line.dataset.name, line.row.name, purpose, trials, seconds, slots))
    return result


def wall_seconds(parts: Iterable[Left], slots: float) -> float | None:
    """Return the time until all is done on `slots` trials at a time; None when a part of it is unknown."""
    total = 0.0
    for part in parts:
        if part.trials and part.seconds is None:
            return None
        total += (part.seconds or 0.0) * part.slots
    return total / max(slots, 1.0)


def _is_alike(spec: TrialSpec, line: Line) -> bool:
    """Tell whether a trial does what the line's do; what starts from another trial has less left to do, if anything."""
    own = (spec.method, spec.dataset, spec.starts_from is not None)
    return own == (line.method.name, line.dataset.name, line.start is not None)


def _closest(alike: list[TrialResult], typical: Parameters, purpose: str) -> list[TrialResult]:
    """Keep the trials of the same purpose where there are some, and of these the ones that differ in fewest parameters.

    What a trial costs goes with its parameters, an embedding size more than all else: those of another size tell
    nothing.
    """
    alike = [record for record in alike if _is_as_large(record.spec.parameters, typical)]
    same = [record for record in alike if record.spec.purpose == purpose] or alike
    differing = [_differing(record.spec.parameters, typical) for record in same]
    return [record for record, count in zip(same, differing, strict=True) if count == min(differing)]


def _is_as_large(parameters: Parameters, typical: Parameters) -> bool:
    """Tell whether embeddings have the size that a line's have, where it is not still to be searched."""
    searched = typical.get(SIZE, "") is None
    return searched or parameters.get(SIZE) == typical.get(SIZE)


def _differing(parameters: Parameters, typical: Parameters) -> int:
    """Count what differs, a default from another value too, without what is still to be searched."""
    searched = {name for name, value in typical.items() if value is None}
    names = (parameters.keys() | typical.keys()) - searched
    return sum(parameters.get(name) != typical.get(name) for name in names)


def _mean_seconds(records: list[TrialResult]) -> float | None:
    return sum(record.wall_seconds for record in records) / len(records) if records else None
